#!/usr/bin/env bash
# Installs the programs we compare with into a Python virtual environment:  tools/peers.sh [FOLDER]
#
# Compiling llama.cpp takes some minutes and wants a C++ compiler and CMake; torch is a large download. Nothing of
# this is needed to build, test or use pythia. tools/peers.py says what to do with it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
venv=${1:-$here/../target/peers}
python=${PYTHON:-python3}

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/peers-requirements.txt"
"$venv/bin/python" - <<'PY'
import gguf, llama_cpp, torch, transformers

print("llama.cpp:", llama_cpp.llama_print_system_info().decode().strip())
print(f"llama-cpp-python {llama_cpp.__version__}, transformers {transformers.__version__}, torch {torch.__version__}")
PY
echo "ready: $venv/bin/python $here/peers.py --help"
