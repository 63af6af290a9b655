#!/bin/bash
# Builds the program for sBPF v0 and v3, byte for byte the same each time and in each folder, and writes the
# builds, their SHA-256 and the compiler's version into DIR (default: builds/ beside this script).
#
#   program/build.sh [DIR]
#
# Needs Debian's rustc-web, rust-web-src and libllvm22, cargo, and sbpf-linker on the PATH. The crates are taken
# from a folder `crates` beside sbpf-linker when there is one (as `cargo vendor` writes it), else from the registry.
set -euo pipefail
cd "$(dirname "$0")"
out=$(mkdir -p "${1:-builds}" && cd "${1:-builds}" && pwd)

missing() { echo "the program cannot be built here: $1" >&2; exit 3; }
export RUSTC=${SPLITUP_RUSTC:-/usr/bin/rustc} RUSTC_BOOTSTRAP=1
[ -x "$RUSTC" ] || missing "$RUSTC is not there (apt-get install rustc-web rust-web-src libllvm22)"
command -v cargo >/dev/null || missing "cargo is not on the PATH"
linker=$(command -v sbpf-linker) || missing "sbpf-linker is not on the PATH"
release=$("$RUSTC" -vV | sed -n 's/^release: //p')
library=/usr/src/rustc-$release/library
[ -d "$library" ] || missing "$library is not there (apt-get install rust-web-src)"
"$linker" --version >/dev/null 2>&1 || missing "$linker does not start (apt-get install libllvm22)"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
crates=$(dirname "$linker")/crates
source=()
remap="--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src=crates"
if [ -d "$crates" ]; then
    source=(--offline --config 'source.crates-io.replace-with="local"' --config "source.local.directory=\"$crates\"")
    remap="--remap-path-prefix=$crates=crates"
fi

# A sysroot for the BPF target: core, and an empty compiler_builtins, since the linker brings memcpy and its kin.
lib=$work/sysroot/lib/rustlib/bpfel-unknown-none/lib
mkdir -p "$lib"
flags=(--target bpfel-unknown-none -C opt-level=3 -C panic=abort -C codegen-units=1 -C embed-bitcode=yes -C debuginfo=0
       -Z unstable-options -Z force-unstable-if-unmarked --cap-lints allow --crate-type rlib --out-dir "$lib")
"$RUSTC" --crate-name core --edition 2024 "${flags[@]}" "$library/core/src/lib.rs"
printf '#![no_std]\n#![feature(compiler_builtins)]\n#![compiler_builtins]\n#![allow(internal_features)]\n' > "$work/builtins.rs"
"$RUSTC" --crate-name compiler_builtins --edition 2021 "${flags[@]}" --extern core="$lib/libcore.rlib" -L "$lib" \
    --sysroot /nonexistent "$work/builtins.rs"

for arch in v0 v3; do
    RUSTFLAGS="--sysroot $work/sysroot -C linker=$linker -C linker-plugin-lto -C embed-bitcode=yes -C panic=abort
               -C link-arg=--cpu-features=+allows-misaligned-mem-access
               -C link-arg=--llvm-args=--bpf-stack-size=4096 -C link-arg=--arch=$arch $remap --remap-path-prefix=$PWD=." \
    cargo build --locked --release --target bpfel-unknown-none --target-dir "$work/$arch" "${source[@]}"
    cp "$work/$arch/bpfel-unknown-none/release/libsplitup_program.so" "$out/splitup.$arch.so"
done
(cd "$out" && sha256sum splitup.v0.so splitup.v3.so > SHA256SUMS && cat SHA256SUMS)
{ "$RUSTC" -vV | grep -E '^(rustc|release|LLVM version)'; "$linker" --version; } > "$out/BUILT_WITH"
