//! The stream of what this agent has to know, while it lasts: copies in force, the bundle acknowledged, the own SVID
//! renewed in time.

use std::time::Duration;

use ca_agent::own::Own;
use ca_agent::replica::Taken;
use ca_agent::rotate::retry_after;
use http_body_util::BodyExt;
use serde_json::json;

use super::enter::Barred;
use super::{LineError, Member, TICK};

/// The authority says something each minute; after so long it is given up (identity.md 3).
const SILENCE: Duration = Duration::from_secs(150);
/// No line is longer: two bundles of a megabyte, escaped, with room to spare.
const LINE_BYTES: usize = 8 * 1024 * 1024;

impl Member {
    /// Follows until the stream ends, which is an error, or the own SVID was renewed, which asks for a new stream.
    pub(super) async fn follow(&mut self) -> Result<(), Barred> {
        let resume = serde_json::to_value(self.receiver.begin()).map_err(super::later)?;
        let mut body = match self.line.begin("/v1/agents:sync", &resume).await {
            Ok(answer) => answer.into_body(),
            Err(error) => return self.refused(error),
        };
        self.settle();
        let (mut served, mut told, mut buffer) = (self.elsewhere.served(), None, Vec::new());
        let (mut heard, mut renewals) = (self.clock.now().mono, 0_u32);
        let mut renew_after = heard;
        loop {
            // Every arm is cancellation safe: a body, a watch, a sleep.
            tokio::select! {
                frame = body.frame() => {
                    let Some(frame) = frame else { return Err(super::later("it ended the stream")) };
                    let frame = frame.map_err(|error| super::later(super::line::cause_of(&error)))?;
                    heard = self.clock.now().mono;
                    buffer.extend_from_slice(&frame.into_data().unwrap_or_default());
                    self.lines(&mut buffer)?;
                }
                _moved = served.changed() => {}
                () = tokio::time::sleep(TICK) => {}
            }
            let (now, current) = (self.clock.now(), *served.borrow_and_update());
            if now.mono.saturating_since(heard) > SILENCE {
                return Err(super::later("it said nothing for too long"));
            }
            if self.receiver.current().is_known() && current != 0 && told != Some(current) {
                let body = json!({ "bundle_sequence": current });
                self.line.post("/v1/agents:acknowledge", &body).await?;
                told = Some(current);
            }
            let is_due = self.due.is_some_and(|due| due <= now.wall) || self.pins.is_missing();
            if is_due && renew_after <= now.mono {
                match self.renew().await {
                    Ok(()) => return Ok(()),
                    Err(Barred::Later(cause)) => {
                        renewals = renewals.saturating_add(1);
                        renew_after = now.mono + retry_after(renewals, self.rng.u64());
                        tracing::warn!(event = "renewal_failed", cause, "the SVID in use is still valid");
                    }
                    Err(person) => return Err(person),
                }
            }
            if told.is_some() {
                self.stand();
            }
        }
    }

    /// Takes the whole lines of what came.
    fn lines(&mut self, buffer: &mut Vec<u8>) -> Result<(), Barred> {
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            match self.receiver.take(&line)? {
                Taken::Part => {}
                Taken::Same => self.heard(),
                Taken::New => {
                    self.take_copy();
                    self.heard();
                }
            }
        }
        if buffer.len() > LINE_BYTES {
            return Err(super::later("it sends a line without end"));
        }
        Ok(())
    }

    /// The authority is there, and says what it should.
    fn heard(&mut self) {
        if !self.told.is_empty() {
            tracing::info!(event = "authority_back", "the authority is followed again");
        }
        (self.failures, self.told, self.is_barred) = (0, String::new(), false);
        self.stand();
    }

    /// What a refusal means for the own SVID.
    fn refused(&mut self, error: LineError) -> Result<(), Barred> {
        let code = error.code().to_owned();
        if code == "agent_superseded"
            && let Some(own) = self.own.as_ref().filter(|own| own.has_older()).map(Own::back)
        {
            // The new one was made and never became known, such as by an authority that was restored.
            self.keep(own);
            self.show();
            return Ok(());
        }
        let barred = Barred::from(error);
        if let (
            Barred::Person(message),
            "not_an_agent" | "agent_superseded" | "agent_expired" | "certificate_revoked",
        ) = (&barred, code.as_str())
        {
            // It is asked for a new token instead, and attests as soon as there is one.
            self.lost = Some(message.clone());
            self.own = None;
        }
        Err(barred)
    }
}
