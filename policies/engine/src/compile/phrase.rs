//! Which code of ours a finding of Cedar's validator has. Called while policies are validated; lint routes by these
//! codes, so each stands for one thing to do.

use crate::Effect;
use cedar_policy::{ValidationError, ValidationWarning};

/// The code of an error in a policy of that effect.
pub(crate) fn error_code(error: &ValidationError, effect: Effect) -> &'static str {
    match (error, effect) {
        (ValidationError::UnsafeOptionalAttributeAccess(_), _) => "PC2107",
        (ValidationError::UnsafeTagAccess(_), Effect::Allow) => "PC2107",
        (ValidationError::UnsafeTagAccess(_), Effect::Deny) => "PC2116",
        (ValidationError::UnsafeAttributeAccess(error), _) if is_about_context(&error.to_string()) => {
            "PC2111"
        }
        _ => "PC2002",
    }
}

/// The code of a warning.
pub(crate) fn warning_code(warning: &ValidationWarning) -> &'static str {
    match warning {
        ValidationWarning::MixedScriptString(_)
        | ValidationWarning::BidiCharsInString(_)
        | ValidationWarning::BidiCharsInIdentifier(_)
        | ValidationWarning::MixedScriptIdentifier(_)
        | ValidationWarning::ConfusableIdentifier(_) => "PC2121",
        _ => "PC2003",
    }
}

/// Cedar says whose attribute it missed in words only.
fn is_about_context(message: &str) -> bool {
    message.contains("in context for ")
}
