//! Checks of the accounts that an instruction names.

use crate::error::Error;
use pinocchio::AccountView;

/// Each account is passed once.
pub fn distinct(accounts: &[&AccountView]) -> Result<(), Error> {
    for (index, account) in accounts.iter().enumerate() {
        if accounts.iter().take(index).any(|earlier| earlier.address() == account.address()) {
            return Err(Error::DuplicateAccount);
        }
    }
    Ok(())
}

pub fn writable(account: &AccountView, otherwise: Error) -> Result<(), Error> {
    if account.is_writable() {
        Ok(())
    } else {
        Err(otherwise)
    }
}

pub fn signer(account: &AccountView, otherwise: Error) -> Result<(), Error> {
    if account.is_signer() {
        Ok(())
    } else {
        Err(otherwise)
    }
}
