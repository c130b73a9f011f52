// Operands of a product of quantized weights with rows of x.

struct ProductArgs {
    const uint8_t* weights; // [rows, row_bytes]
    Quantized x;            // [n, cols]
    OutputArgs output;
    uint64_t row_bytes;
    uint32_t units; // of 32 elements in a row
    uint32_t n;
};
