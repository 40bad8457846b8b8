//! Policies of a gateway as its directory is edited.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Gateway, Result};

impl Gateway {
    /// Replaces a policy file and waits until a newer version is in force.
    pub fn publish(&self, file: &str, text: &str) -> Result<u64> {
        let before = self.policies_version()?;
        fs::write(self.dir().join("policies").join(file), text)?;
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            let version = self.policies_version()?;
            if version > before {
                return Ok(version);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(format!("the edit was not taken in force\n{}", self.log()).into())
    }

    /// The number of the policies in force.
    pub fn policies_version(&self) -> Result<u64> {
        self.json(&["status"])?
            .pointer("/policies/version")
            .and_then(Value::as_u64)
            .ok_or_else(|| "no version".into())
    }
}
