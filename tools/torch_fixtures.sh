#!/usr/bin/env bash
# Makes tests/data/torch anew:  tools/torch_fixtures.sh VENVS [OUT]
#
# Puts a virtual environment for each version of PyTorch and Transformers under VENVS (several GB: the wheels of old
# versions need their CUDA libraries to be imported), and runs tools/torch_fixtures.py in each. Python 3.11.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
venvs=$1
out=${2:-$here/../tests/data/torch}
mkdir -p "$venvs" "$out"

venv() { # NAME PACKAGE...: once
    local name=$1
    shift
    [ -x "$venvs/$name/bin/python" ] && return
    python3 -m venv "$venvs/$name"
    "$venvs/$name/bin/pip" install -q "$@"
}

venv torch-1.13.1 torch==1.13.1 "numpy<2"
venv torch-2.0.1 torch==2.0.1 "numpy<2"
venv torch-2.15 torch==2.15.0 numpy
venv transformers-4 torch==2.15.0 transformers==4.57.6
venv transformers-5 torch==2.15.0 transformers==5.23.0

for version in 1.13.1 2.0.1 2.15; do
    "$venvs/torch-$version/bin/python" "$here/torch_fixtures.py" weights "$out"
done
python3 "$here/torch_fixtures.py" safetensors "$out"
for version in 4 5; do
    "$venvs/transformers-$version/bin/python" "$here/torch_fixtures.py" pretrained "$out"
done
