use super::*;

fn load(bytes: &[u8]) -> Pickle<'_> {
    Pickle::load(bytes).unwrap_or_else(|e| panic!("byte {}: {}", e.at, e.reason))
}

/// A value written out.
fn shown(pickle: &Pickle<'_>, value: Value) -> String {
    let list = |items: &[Value]| items.iter().map(|&item| shown(pickle, item)).collect::<Vec<_>>().join(" ");
    match value {
        Value::None => "None".into(),
        Value::Bool(bool) => bool.to_string(),
        Value::Int(int) => int.to_string(),
        Value::Long(span) => format!("{:?}", pickle.long(span)),
        Value::Text(span) => format!("{:?}", pickle.text(span)),
        Value::Tuple(tuple) => format!("({})", list(&pickle.heap.tuples[tuple])),
        Value::List(items) => format!("[{}]", list(&pickle.heap.lists[items])),
        Value::Dict(dict) => {
            let items = pickle.heap.dicts[dict].items.iter();
            let items: Vec<_> =
                items.map(|&(key, value)| format!("{}: {}", shown(pickle, key), shown(pickle, value))).collect();
            format!("{{{}}}", items.join(" "))
        }
        other => other.kind().into(),
    }
}

#[test]
fn every_instruction_makes_its_value() {
    for (bytes, wanted) in [
        (b"N.".as_slice(), "None"),
        (b"\x88\x89\x86.", "(true false)"),
        (b"(I01\nI00\nI-7\nt.", "(true false -7)"),
        (b"L12L\n.", "12"),
        (
            b"L99999999999999999999L\n.",
            "[57, 57, 57, 57, 57, 57, 57, 57, 57, 57, 57, 57, 57, 57, 57, 57, 57, 57, 57, 57]",
        ),
        (b"(J\xff\xff\xff\xffK\xffM\xff\xfft.", "(-1 255 65535)"),
        (
            b"(\x8a\x00\x8a\x01\x80\x8a\x02\x00\x80\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7ft.",
            "(0 -128 -32768 9223372036854775807)",
        ),
        (b"\x8b\x02\x00\x00\x00\xff\x7f.", "32767"),
        (b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01.", "[0, 0, 0, 0, 0, 0, 0, 0, 1]"),
        (b"(F1.5\nG?\xf8\x00\x00\x00\x00\x00\x00t.", "(a float a float)"),
        (b"(S'a'\nS\"b'\"\nVc\nU\x01dT\x01\x00\x00\x00et.", r#"("a" "b'" "c" "d" "e")"#),
        (b"(X\x02\x00\x00\x00\xc3\xa9\x8c\x01a\x8d\x01\x00\x00\x00\x00\x00\x00\x00bt.", r#"("é" "a" "b")"#),
        (b"(C\x01\xffB\x01\x00\x00\x00\xff\x8e\x01\x00\x00\x00\x00\x00\x00\x00\xfft.", "(bytes bytes bytes)"),
        (b"K\x01K\x02K\x03\x87\x85.", "((1 2 3))"),
        (b"](K\x01K\x02eK\x03a.", "[1 2 3]"),
        (b"(K\x01(K\x02ll.", "[1 [2]]"),
        (b"}K\x01K\x02s(K\x03)K\x05]u.", "{1: 2 3: () 5: []}"),
        (b"(K\x01K\x02d.", "{1: 2}"),
        (b"ccollections\nOrderedDict\n)RK\x01K\x02s}b.", "{1: 2}"),
        (b"ccollections\nOrderedDict\n)\x81.", "{}"),
        (b"(ccollections\nOrderedDict\no.", "{}"),
        (b"(icollections\nOrderedDict\n.", "{}"),
        (b"\x8c\x0bcollections\x8c\x0bOrderedDict\x93)R.", "{}"),
        (b"ctorch\nSize\nK\x01K\x02\x86\x85R.", "(1 2)"),
        // Memo, marks, duplicates.
        (b"(K\x07p5\n0g5\nK\x08q\x06h\x06K\x09\x94r\xff\xff\xff\xffj\xff\xff\xff\xfft.", "(7 8 8 9 9)"),
        (b"K\x01\x940K\x02\x940h\x00h\x01\x86.", "(1 2)"),
        (b"K\x012\x86.", "(1 1)"),
        (b"K\x01(K\x02K\x031(0.", "1"),
        (b"\x80\x04\x95\x02\x00\x00\x00\x00\x00\x00\x00N.", "None"),
        (b"\x80\x02N.and more", "None"),
    ] {
        let pickle = load(bytes);
        assert_eq!(shown(&pickle, pickle.root), wanted, "{}", bytes.escape_ascii());
    }
    assert_eq!(load(b"\x80\x02N.and more").n_bytes, 4);
}

#[test]
fn a_tensor_is_a_description() {
    let bytes =
        b"ctorch._utils\n_rebuild_parameter\n(ctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\n\
        U\x02k1U\x03cpuK\x14tQK\x03K\x02K\x05\x86K\x08K\x01\x86\x89ccollections\nOrderedDict\n)RNtR\x88NtR.";
    let pickle = load(bytes);
    let Value::Tensor(tensor) = pickle.root else { panic!("{:?}", pickle.root) };
    let Tensor { storage, offset, shape, strides } = &pickle.heap.tensors[tensor];
    assert_eq!((*offset, shape.as_slice(), strides.as_slice()), (3, [2, 5].as_slice(), [8, 1].as_slice()));
    let storage = &pickle.heap.storages[*storage];
    assert_eq!((pickle.text(storage.key), storage.element.name(), storage.element.size), ("k1", "Float", 4));
    assert_eq!((storage.n_elems, storage.part), (20, None));
}

#[test]
fn the_place_of_an_error_is_its_instruction() {
    for (bytes, at) in
        [(b"\x80\x02}(K\x01u.".as_slice(), 6), (b"\x80\x02cos\nsystem\n.", 2), (b"N", 1), (b"\x80\x02\x8c\x04ab", 2)]
    {
        assert_eq!(Pickle::load(bytes).unwrap_err().at, at, "{}", bytes.escape_ascii());
    }
}

/// Programs of instructions drawn at random, among bytes that their operands may be.
#[test]
fn no_program_panics() {
    const PIECES: &[&[u8]] = &[
        b"(",
        b"0",
        b"1",
        b"2",
        b"N",
        b"\x88",
        b"K\x01",
        b"J\xff\xff\xff\xff",
        b"\x8a\x02\x00\x80",
        b"\x8b\x01\0\0\0\x01",
        b"I12\n",
        b"S'a'\n",
        b"X\x01\0\0\0a",
        b"\x8c\x07storage",
        b"\x8c\x01",
        b"C\x01a",
        b")",
        b"t",
        b"\x85",
        b"\x86",
        b"\x87",
        b"]",
        b"l",
        b"a",
        b"e",
        b"}",
        b"d",
        b"s",
        b"u",
        b"g1\n",
        b"h\x00",
        b"h\x01",
        b"q\x00",
        b"q\x01",
        b"\x94",
        b"ccollections\nOrderedDict\n",
        b"ctorch._utils\n_rebuild_tensor\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch._utils\n_rebuild_parameter\n",
        b"ctorch\nSize\n",
        b"ctorch\nHalfStorage\n",
        b"cos\nsystem\n",
        b"\x93",
        b"R",
        b"b",
        b"o",
        b"\x81",
        b"icollections\nOrderedDict\n",
        b"Q",
        b"(X\x07\0\0\0storagectorch\nHalfStorage\nX\x01\0\0\x000NK\x05tQ",
        b"\x95\x01\0\0\0\0\0\0\0",
        b"\xff",
        b".",
    ];
    let mut state = 1u64;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    let (mut ended, mut program) = (0, Vec::new());
    for _ in 0..50_000 {
        program.clear();
        for _ in 0..draw(30) + 1 {
            program.extend_from_slice(PIECES[draw(PIECES.len())]);
        }
        program.push(b'.');
        if let Ok(pickle) = Pickle::load(&program) {
            ended += 1;
            let _ = crate::torch::state_dict::tensors(&pickle);
        }
    }
    assert!(ended > 200, "{ended}");
}
