//! The lamports that an account must hold, under both of the cluster's rules.

use crate::error::Error;
use pinocchio::{
    error::ProgramError,
    sysvars::{
        get_sysvar,
        rent::{ACCOUNT_STORAGE_OVERHEAD, RENT_ID},
    },
};

/// The exemption threshold is a float. It is known by its bits; there is no arithmetic with it.
const THRESHOLD_ONE: [u8; 8] = 1.0_f64.to_le_bytes();
const THRESHOLD_TWO: [u8; 8] = 2.0_f64.to_le_bytes();

/// An account here has less than 8 KiB. Up to this rate the products below stay within 64 bits; checked
/// multiplication would need 128, which the target has not.
const MAX_PER_BYTE: u64 = u64::MAX >> 14;

/// Lamports that exempt an account of `length` bytes (fewer than 8,064) from rent.
pub fn exemption(length: usize) -> Result<u64, ProgramError> {
    let mut per_byte = [0; 8];
    let mut threshold = [0; 8];
    get_sysvar(&mut per_byte, &RENT_ID, 0)?;
    get_sysvar(&mut threshold, &RENT_ID, 8)?;
    let years = match threshold {
        THRESHOLD_ONE => 1,
        THRESHOLD_TWO => 2,
        _ => return Err(Error::UnknownRentRule.into()),
    };
    let per_byte = u64::from_le_bytes(per_byte);
    if per_byte > MAX_PER_BYTE {
        return Err(Error::SumOverflow.into());
    }
    let bytes = ACCOUNT_STORAGE_OVERHEAD.wrapping_add(length as u64).wrapping_mul(years);
    Ok(bytes.wrapping_mul(per_byte))
}
