//! The API of a gateway, asked over its local socket as a program would, without the commands in between.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

use crate::{Gateway, Result};

/// What the API answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    /// Null when there was none.
    pub body: Value,
}

impl Answer {
    /// The value of a header, named in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }
}

impl Gateway {
    /// One call of the API, as the user that runs the tests.
    pub fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer> {
        let mut stream = UnixStream::connect(self.admin_socket())?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
        if !body.is_empty() {
            request
                .push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        write!(stream, "{request}\r\n{body}")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        if head.contains("transfer-encoding") {
            return Err(format!("an answer of known length is expected: {head}").into());
        }
        let status = head.split(' ').nth(1).ok_or("no status")?.parse()?;
        let body = if body.is_empty() { Value::Null } else { serde_json::from_str(body)? };
        Ok(Answer { status, head: head.to_owned(), body })
    }

    /// Every record that matches the filters of a URL, such as `kind=authority`, newest first, over all pages.
    pub fn records(&self, filters: &str) -> Result<Vec<Value>> {
        let mut found = Vec::new();
        let mut cursor = String::new();
        loop {
            let answer =
                self.ask("GET", &format!("/v1/decisions?{filters}&limit=1000{cursor}"), &[], None)?;
            if answer.status != 200 {
                return Err(format!("{filters}: {} {}", answer.status, answer.body).into());
            }
            found.extend(answer.body["items"].as_array().cloned().unwrap_or_default());
            match answer.body["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(found),
            }
        }
    }
}
