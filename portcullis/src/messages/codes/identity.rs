//! Codes of identities: SVIDs, the authority, agents elsewhere.

use super::Code;

pub(super) static CODES: &[Code] = &[
    Code { code: "PC1001", title: "identity could not be obtained", text: "The Workload API gave no SVID." },
    Code {
        code: "PC1002",
        title: "not a usable certificate",
        text: "The file holds no certificate that can be read.",
    },
    Code {
        code: "PC1003",
        title: "not a usable JWT-SVID",
        text: "The file holds no JWT-SVID, or one that the Workload API refuses; the reason is said.",
    },
    Code {
        code: "PC1004",
        title: "nobody was told of new files",
        text: "The identity is written, but the program that reads it could not be sent its signal.",
    },
    Code {
        code: "PC1005",
        title: "program cannot be run",
        text: "svid exec could not start or watch the command behind `--`.",
    },
    Code {
        code: "PC1006",
        title: "an SVID does not verify",
        text: "The first rule that it breaks is said, with a word for it in brackets. The rules are those that the gateway judges its peers by.",
    },
    Code {
        code: "PC1007",
        title: "bundle of another trust domain",
        text: "It cannot be fetched, or trusts nobody: identities of that domain are refused, or will be when it has been unseen for too long.",
    },
    Code {
        code: "PC1010",
        title: "certificate authority cannot start",
        text: "The key files and the records of the authority do not fit together.",
    },
    Code {
        code: "PC1012",
        title: "no new revocation lists",
        text: "What others verify with grows old; the deny set is in force all the same. The cause is said, and it is tried again.",
    },
    Code {
        code: "PC1020",
        title: "no join token",
        text: "This host is no agent of its authority yet, and has no token to become one. `portcullis agent token` makes one at the authority.",
    },
    Code {
        code: "PC1021",
        title: "another authority",
        text: "Whoever answers at the address of [join] cannot prove to be the authority that the file names. Nothing was sent to it.",
    },
    Code {
        code: "PC1022",
        title: "join token refused",
        text: "The token is unknown, used or expired. It makes one agent, once, within its lifetime.",
    },
    Code {
        code: "PC1023",
        title: "agent banned",
        text: "The authority does nothing for this agent any more. Evicting it there lifts that; then a new token makes another agent.",
    },
    Code {
        code: "PC1024",
        title: "agent unknown",
        text: "The SVID of this agent has ended, or it was evicted. A new token is all that is needed; nothing has to be deleted.",
    },
    Code {
        code: "PC1025",
        title: "refused by the authority",
        text: "The authority answered with an error; its own text follows.",
    },
];
