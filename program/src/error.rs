//! Every reason to refuse an instruction, each with a code of its own. Names and messages stand in the IDL.

use pinocchio::error::ProgramError;

#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Error {
    // The data.
    UnknownInstruction = 6000,
    ArgumentsTruncated,
    ArgumentsTrailing,
    InvalidExecutionId,
    InvalidTaskId,
    InvalidModelId,
    InputUriCount,
    InvalidInputUri,
    OutputCountZero,
    RewardTooLarge,
    ComputeUnitsTooLarge,
    DeadlineNotAhead,
    DeadlineTooFar,
    OutputUriCount,
    InvalidOutputUri,
    ErrorMessageTooLong,
    ErrorMessageNotUtf8,

    // The accounts.
    AccountsMissing = 6020,
    DuplicateAccount,
    ExecutionNotWritable,
    RequesterNotSigner,
    RequesterNotWritable,
    NodeNotSigner,
    NodeNotWritable,
    WrongSystemProgram,
    RequesterNotAWallet,
    WrongAddress,
    WrongOwner,
    UnknownLayout,
    WrongRequester,
    WrongNode,

    // The state, the attempt, the time.
    StillAssigned = 6040,
    NoticeRunning,
    NoticeOver,
    AlreadyCancelled,
    AlreadyFailed,
    AlreadyCompleted,
    WrongAttempt,
    SameSlot,
    DeadlinePassed,

    // The lamports.
    UnknownRentRule = 6060,
    InsufficientFunds,
    RewardMissing,
    SumOverflow,
}

impl From<Error> for ProgramError {
    fn from(error: Error) -> Self {
        ProgramError::Custom(error as u32)
    }
}
