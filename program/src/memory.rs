//! What the compiler calls to move bytes whose number it does not know. The Solana toolchain brings its own;
//! upstream's BPF target has none.
#![cfg(all(target_arch = "bpf", not(target_os = "solana")))]

use pinocchio::syscalls::{sol_memcmp_, sol_memcpy_, sol_memset_};

/// # Safety
/// As C's memcpy: both are valid for `length` bytes and do not overlap.
#[no_mangle]
pub unsafe extern "C" fn memcpy(target: *mut u8, source: *const u8, length: usize) -> *mut u8 {
    sol_memcpy_(target, source, length as u64);
    target
}

/// # Safety
/// As C's memset.
#[no_mangle]
pub unsafe extern "C" fn memset(target: *mut u8, byte: i32, length: usize) -> *mut u8 {
    sol_memset_(target, byte as u8, length as u64);
    target
}

/// # Safety
/// As C's memcmp.
#[no_mangle]
pub unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, length: usize) -> i32 {
    let mut order = 0;
    sol_memcmp_(left, right, length as u64, &mut order);
    order
}
