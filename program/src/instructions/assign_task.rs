use crate::{
    accounts, address,
    arguments::{Pair, Reader},
    error::Error,
    event,
    execution::{Head, State, Terms, HEAD_LENGTH},
    rent, text,
    time::{Now, MAX_DEADLINE_S},
};
use pinocchio::{
    cpi::{Seed, Signer},
    error::ProgramError,
    AccountView, Address, ProgramResult, Resize,
};
use pinocchio_system::instructions::{Allocate, Assign, Transfer};

/// Largest reward and number of compute units: what JSON's numbers hold exactly.
const MAX_COUNT: u64 = (1 << 53) - 1;

struct Arguments<'a> {
    pair: Pair<'a>,
    /// Ids, modelId and URIs in borsh: both the account and the event hold them as they came.
    strings: &'a [u8],
    terms: Terms,
}

/// Create the account, or take it again, put rent and reward into it, and tell of the assignment.
pub fn assign_task(program_id: &Address, accounts: &mut [AccountView], data: &[u8]) -> ProgramResult {
    let arguments = Arguments::read(data)?;
    let [execution, requester, node, system_program, ..] = accounts else {
        return Err(Error::AccountsMissing.into());
    };
    accounts::distinct(&[execution, requester, node, system_program])?;
    accounts::writable(execution, Error::ExecutionNotWritable)?;
    accounts::signer(requester, Error::RequesterNotSigner)?;
    accounts::writable(requester, Error::RequesterNotWritable)?;
    if *system_program.address() != pinocchio_system::ID {
        return Err(Error::WrongSystemProgram.into());
    }
    if !requester.owned_by(&pinocchio_system::ID) || !requester.is_data_empty() {
        return Err(Error::RequesterNotAWallet.into());
    }
    let now = Now::read()?;
    check_deadline(arguments.terms.deadline, &now)?;
    let hash = address::hash(&arguments.pair);
    let bump = address::check_by_search(execution, &hash, program_id)?;
    let length = HEAD_LENGTH.saturating_add(arguments.strings.len());

    let is_new = execution.owned_by(&pinocchio_system::ID);
    if !is_new {
        may_be_taken_again(&Head::load(execution, program_id)?, requester, &now)?;
    }
    fund(execution, requester, length, arguments.terms.reward)?;
    if is_new {
        create(execution, program_id, &hash, bump, length)?;
    } else {
        execution.resize(length)?;
    }
    let head = Head::assigned(&arguments.terms, node.address(), requester.address(), bump, now.slot);
    write(execution, &head, arguments.strings)?;
    arguments.emit(node.address())?;
    Ok(())
}

impl<'a> Arguments<'a> {
    fn read(data: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(data);
        let pair = Pair::read(&mut reader)?;
        if !text::is_id(reader.string()?) {
            return Err(Error::InvalidModelId);
        }
        let count = reader.u32()? as usize;
        if count == 0 || count > text::MAX_URIS {
            return Err(Error::InputUriCount);
        }
        for _ in 0..count {
            if !text::is_uri(reader.string()?) {
                return Err(Error::InvalidInputUri);
            }
        }
        let strings = reader.read_so_far();
        let terms = Terms {
            expected_output_count: reader.u8()?,
            deadline: reader.i64()?,
            compute_units: reader.u64()?,
            reward: reader.u64()?,
        };
        reader.finish()?;
        check_counts(&terms)?;
        Ok(Self { pair, strings, terms })
    }

    /// `TaskAssigned`: the eight fields of TaskAssignmentData.
    fn emit(&self, assigned_node: &Address) -> Result<(), Error> {
        event::emit(
            event::TASK_ASSIGNED,
            &[
                self.strings,
                &[self.terms.expected_output_count],
                &self.terms.deadline.to_le_bytes(),
                &self.terms.compute_units.to_le_bytes(),
                assigned_node.as_ref(),
            ],
        )
    }
}

fn check_counts(terms: &Terms) -> Result<(), Error> {
    if terms.expected_output_count == 0 {
        return Err(Error::OutputCountZero);
    }
    if terms.compute_units > MAX_COUNT {
        return Err(Error::ComputeUnitsTooLarge);
    }
    if terms.reward > MAX_COUNT {
        return Err(Error::RewardTooLarge);
    }
    Ok(())
}

fn check_deadline(deadline: i64, now: &Now) -> Result<(), Error> {
    if deadline <= now.unix_timestamp {
        return Err(Error::DeadlineNotAhead);
    }
    if deadline > now.after(MAX_DEADLINE_S)? {
        return Err(Error::DeadlineTooFar);
    }
    Ok(())
}

fn may_be_taken_again(head: &Head, requester: &AccountView, now: &Now) -> Result<(), Error> {
    if head.requester != *requester.address() {
        return Err(Error::WrongRequester);
    }
    match head.state() {
        State::Failed => {}
        State::Assigned => now.grace_is_over(head)?,
        State::Cancelled => now.notice_is_over(head)?,
        State::Completed => return Err(Error::AlreadyCompleted),
    }
    now.is_above_attempt(head)
}

/// Transfer what is missing: somebody may have funded the address before, and an account taken again keeps
/// what it holds. A surplus stays until it is reclaimed.
fn fund(execution: &AccountView, requester: &AccountView, length: usize, reward: u64) -> ProgramResult {
    let needed = rent::exemption(length)?.checked_add(reward).ok_or(Error::SumOverflow)?;
    let missing = needed.saturating_sub(execution.lamports());
    if missing > requester.lamports() {
        return Err(Error::InsufficientFunds.into());
    }
    if missing > 0 {
        Transfer { from: requester, to: execution, lamports: missing }.invoke()?;
    }
    Ok(())
}

fn create(execution: &AccountView, program_id: &Address, hash: &[u8; 32], bump: u8, length: usize) -> ProgramResult {
    let bump = [bump];
    let seeds = [Seed::from(address::SEED), Seed::from(hash), Seed::from(&bump)];
    let signers = [Signer::from(&seeds)];
    Allocate { account: execution, space: length as u64 }.invoke_signed(&signers)?;
    Assign { account: execution, owner: program_id }.invoke_signed(&signers)
}

/// Write head and strings. The account has exactly their length, so nothing of an earlier attempt is left.
fn write(execution: &mut AccountView, head: &Head, strings: &[u8]) -> Result<(), ProgramError> {
    head.store(execution)?;
    let mut data = execution.try_borrow_mut()?;
    match data.get_mut(HEAD_LENGTH..) {
        Some(rest) if rest.len() == strings.len() => rest.copy_from_slice(strings),
        _ => return Err(Error::UnknownLayout.into()),
    }
    Ok(())
}
