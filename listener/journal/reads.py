"""Every question that the journal answers, to the listener and to a command beside it."""

from listener.journal.book_reads import BookReads
from listener.journal.chain_reads import ChainReads
from listener.journal.task_reads import TaskReads


class Reads(TaskReads, ChainReads, BookReads):
    """All of them, of one open file."""
