//! Codes of the decision ledger, of state on disk, and of what should be impossible.

use super::Code;

pub(super) static CODES: &[Code] = &[
    Code {
        code: "PC5001",
        title: "no such decision",
        text: "No decision with this id is on record, or it is not visible to you.",
    },
    Code {
        code: "PC5002",
        title: "records were lost",
        text: "A queue was full, or the disk took no more. Every loss is covered by a gap record, with its cause and count; `portcullis decisions gaps` lists them.",
    },
    Code {
        code: "PC5003",
        title: "the decision log does not verify",
        text: "A record, a tile or the checkpoint is not what was signed, or the log is not the one of the kept checkpoint. The first bad index is named.",
    },
    Code {
        code: "PC5010",
        title: "an enforcer fell silent",
        text: "A stream of the ledger has neither a close nor a heartbeat for 30 s: nothing is known of it since. `portcullis decisions streams` shows which.",
    },
    Code {
        code: "PC5011",
        title: "no checkpoint is signed",
        text: "Records wait for a signed checkpoint for more than 30 s. The log says why; what is not signed can be changed unseen until it is.",
    },
    Code {
        code: "PC5012",
        title: "a closed segment is not what it was",
        text: "The ledger reads one closed segment an hour and compares it with its tree. Restore the file from a copy, and verify the ledger with `portcullis decisions verify`.",
    },
    Code {
        code: "PC5020",
        title: "holds keep more than the ledger may be large",
        text: "Segments under a legal hold are larger together than the ledger may be. Nothing held is removed: release holds.",
    },
    Code {
        code: "PC6001",
        title: "state directory cannot be used",
        text: "The directory is in use by another process, newer than this binary, or damaged.",
    },
    Code {
        code: "PC6020",
        title: "the ledger is not what was signed",
        text: "It is shorter than its last signed checkpoint, or other than it. Nothing is signed until the right copy is back or an operator accepts the loss.",
    },
    Code {
        code: "PC6021",
        title: "part of the ledger is damaged",
        text: "A block or a file of the ledger is not what was written. The range is named in every answer that lacks it, all others go on; restore the file from a copy. What no checkpoint covered yet is set aside in `ledger/quarantine`, and a record in its place says where it was, how long and why: `portcullis decisions query --kind administration`.",
    },
    Code {
        code: "PC6022",
        title: "the decision log cannot be read",
        text: "What is to be verified is not there or cannot be read, so nothing can be said about it.",
    },
    Code {
        code: "PC9001",
        title: "internal error",
        text: "Something happened that should be impossible. Please report it with the text shown.",
    },
];
