#!/usr/bin/env bash
# Make the virtual environment: `.ci/env.sh FOLDER [TORCH]`, called by `make env`.
#
# Needs Python 3.11 to 3.14 with the venv module, or `uv`. TORCH names another build of PyTorch than
# PyPI's (`cpu`, `cu126`, ... as in `uv pip install --torch-backend`); empty: PyPI's, which runs with
# and without a GPU. uv takes torch and torchvision from the same index; pip may mix two.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1
torch=${2:-}

works() { "$@" >/dev/null 2>&1; }
supported='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))'

find_python() {
    for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3.14 python3; do
        if works "$candidate" -c "$supported"; then
            echo "$candidate"
            return
        fi
    done
    echo "env: no Python 3.11 to 3.14 found: install one, or say make env PYTHON=/path/to/python" >&2
    return 1
}

# Another build of PyTorch than last time: version pins cannot tell the builds apart, so start anew.
if [ -e "$venv/.torch" ] && [ "$(cat "$venv/.torch")" != "$torch" ]; then
    rm -rf "$venv"
fi

if ! works "$venv/bin/python" -c "$supported"; then
    python=$(find_python)
    echo "env: making $venv with $("$python" --version)"
    rm -rf "$venv"
    if works uv --version; then
        uv venv --quiet --python "$python" "$venv"
    elif ! works "$python" -m venv "$venv"; then
        rm -rf "$venv"
        echo "env: $python has no venv module: install it (Debian: apt install python3-venv) or uv" >&2
        exit 1
    fi
fi

if works uv --version; then
    uv=(uv)
else
    works "$venv/bin/uv" --version || "$venv/bin/python" -m pip install --quiet "uv>=0.7.14"
    uv=("$venv/bin/uv")
fi

# Compiled now, because where Python may not write bytecode every process would do it again: ten
# seconds for PyTorch's compiler alone.
install=("${uv[@]}" pip install --compile-bytecode --python "$venv/bin/python")
if [ -n "$torch" ]; then
    # The CUDA packages are pinned for PyPI's build; another build names its own, or none.
    grep -vE '^(nvidia-|cuda-|triton)' requirements.txt >"$venv/requirements.txt"
    "${install[@]}" --torch-backend="$torch" -r "$venv/requirements.txt"
else
    "${install[@]}" -r requirements.txt
fi
"${install[@]}" --quiet --no-deps -e .
echo "$torch" >"$venv/.torch"
