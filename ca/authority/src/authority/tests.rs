//! What the authority promises, on a memory disk and a memory store.

mod agents;
mod conformance;
mod crls;
mod federation;
mod first_start;
mod issuance;
mod mint;
mod registration;
mod revocations;
mod rotation;
mod slots;
mod tokens;
