//! What this binary is: version, the commit and features that it was built from, and what it is made of. Told by
//! `portcullis version` and `portcullis_build_info`. Knows nothing of the host that it runs on.

use std::fmt::Write as _;

/// Of this package.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit that it was built from, by the word of whoever built it (`deploy/package`, `deploy/image`).
pub(crate) const COMMIT: Option<&str> = option_env!("PORTCULLIS_COMMIT");
/// Of the engine that judges.
pub(crate) const CEDAR: &str = "4.14.1";
/// Its packages, as CycloneDX (SU-05); `deploy/sbom/generate.py` writes it.
pub(crate) const SBOM: &str = include_str!("../../deploy/sbom/portcullis.cdx.json");

/// Those that were switched on.
pub(crate) fn features() -> Vec<&'static str> {
    let known = [("mimalloc", cfg!(feature = "mimalloc"))];
    known.into_iter().filter_map(|(name, is_on)| is_on.then_some(name)).collect()
}

/// The digest of [`SBOM`], as `sha256:` and hexadecimal.
pub(crate) fn sbom_digest() -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, SBOM.as_bytes());
    digest.as_ref().iter().fold("sha256:".to_owned(), |mut text, byte| {
        // A string takes all that is written.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}
