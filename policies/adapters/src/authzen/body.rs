//! Bodies of questions: read member by member, so that a missing or mistyped one is named; unknown ones are left alone.

use axum::http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value, json};

/// Deepest nesting.
const DEPTH: usize = 64;
/// Most evaluations of one body.
const EVALUATIONS: usize = 500;

/// What is no question, or cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl Bad {
    pub(super) fn request(message: impl Into<String>) -> Bad {
        Bad { status: StatusCode::BAD_REQUEST, message: message.into() }
    }

    pub(super) fn busy() -> Bad {
        Bad { status: StatusCode::TOO_MANY_REQUESTS, message: "too many questions at a time".to_owned() }
    }

    pub(super) fn unrecorded(message: String) -> Bad {
        Bad { status: StatusCode::SERVICE_UNAVAILABLE, message }
    }

    /// As one of several answers (AZ3).
    pub(super) fn item(self) -> Value {
        let error = json!({ "status": self.status.as_u16(), "message": self.message });
        json!({ "decision": false, "context": { "error": error } })
    }
}

type Object = Map<String, Value>;

/// One question.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    pub(super) subject: Entity,
    pub(super) action: String,
    pub(super) action_properties: Object,
    pub(super) resource: Entity,
    pub(super) context: Object,
}

/// A subject or a resource.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entity {
    pub(super) kind: String,
    pub(super) id: String,
    pub(super) properties: Object,
}

/// Several questions.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) items: Vec<Result<Asked, Bad>>,
    pub(super) semantic: Semantic,
}

/// When a batch is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Semantic {
    ExecuteAll,
    DenyOnFirstDeny,
    PermitOnFirstPermit,
}

impl Semantic {
    /// Whether that answer is the last one.
    pub(super) fn ends_with(self, decision: bool) -> bool {
        match self {
            Semantic::ExecuteAll => false,
            Semantic::DenyOnFirstDeny => !decision,
            Semantic::PermitOnFirstPermit => decision,
        }
    }
}

/// The body as an object. A wrong content type is a 400 too, as the standard says.
pub(super) fn document(headers: &HeaderMap, bytes: &[u8]) -> Result<Object, Bad> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Bad::request(format!("content type `{kind}` is not application/json")));
    }
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| Bad::request(format!("the body is not JSON: {error}")))?;
    if depth(&value) > DEPTH {
        return Err(Bad::request(format!("the body nests deeper than {DEPTH}")));
    }
    match value {
        Value::Object(document) => Ok(document),
        _ => Err(Bad::request("the body is not an object")),
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

/// The document as one question.
pub(super) fn single(document: &Object) -> Result<Asked, Bad> {
    asked(document, &Object::new())
}

impl Batch {
    /// `None` when there are no evaluations: then the document is a single question.
    pub(super) fn read(document: &Object) -> Result<Option<Batch>, Bad> {
        let items = match document.get("evaluations") {
            None => return Ok(None),
            Some(Value::Array(items)) if items.is_empty() => return Ok(None),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(Bad::request("`evaluations` is not an array")),
        };
        if items.len() > EVALUATIONS {
            return Err(Bad::request(format!("{} evaluations, at most {EVALUATIONS}", items.len())));
        }
        // A mistyped default is everybody's fault, so it is the whole body's.
        for name in ["subject", "action", "resource", "context"] {
            object(document, name)?;
        }
        let semantic = semantic(document)?;
        let item = |value: &Value| match value {
            Value::Object(item) => asked(item, document),
            _ => Err(Bad::request("an evaluation is not an object")),
        };
        Ok(Some(Batch { items: items.iter().map(item).collect(), semantic }))
    }
}

fn semantic(document: &Object) -> Result<Semantic, Bad> {
    let Some(options) = object(document, "options")? else { return Ok(Semantic::ExecuteAll) };
    match options.get("evaluations_semantic") {
        None => Ok(Semantic::ExecuteAll),
        Some(Value::String(word)) => match word.as_str() {
            "execute_all" => Ok(Semantic::ExecuteAll),
            "deny_on_first_deny" => Ok(Semantic::DenyOnFirstDeny),
            "permit_on_first_permit" => Ok(Semantic::PermitOnFirstPermit),
            other => Err(Bad::request(format!("`{other}` is no evaluations_semantic"))),
        },
        Some(_) => Err(Bad::request("`options.evaluations_semantic` is not a string")),
    }
}

/// A question; what it does not say comes from `defaults`: whole objects, and a `type`, `id` or `name` that is missing.
fn asked(item: &Object, defaults: &Object) -> Result<Asked, Bad> {
    let action = Pair::of(item, defaults, "action")?;
    let context = match object(item, "context")? {
        Some(context) => context.clone(),
        None => object(defaults, "context")?.cloned().unwrap_or_default(),
    };
    Ok(Asked {
        subject: Pair::of(item, defaults, "subject")?.entity()?,
        action: action.text("name")?,
        action_properties: action.properties()?,
        resource: Pair::of(item, defaults, "resource")?.entity()?,
        context,
    })
}

/// An object of a question with the one it falls back to.
struct Pair<'a> {
    name: &'static str,
    own: &'a Object,
    fallback: Option<&'a Object>,
}

impl<'a> Pair<'a> {
    fn of(item: &'a Object, defaults: &'a Object, name: &'static str) -> Result<Pair<'a>, Bad> {
        match (object(item, name)?, object(defaults, name)?) {
            (Some(own), fallback) => Ok(Pair { name, own, fallback }),
            (None, Some(own)) => Ok(Pair { name, own, fallback: None }),
            (None, None) => Err(Bad::request(format!("`{name}` is missing"))),
        }
    }

    fn entity(&self) -> Result<Entity, Bad> {
        Ok(Entity { kind: self.text("type")?, id: self.text("id")?, properties: self.properties()? })
    }

    fn text(&self, member: &str) -> Result<String, Bad> {
        let path = format!("{}.{member}", self.name);
        match self.own.get(member).or_else(|| self.fallback?.get(member)) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(Bad::request(format!("`{path}` is not a string"))),
            None => Err(Bad::request(format!("`{path}` is missing"))),
        }
    }

    fn properties(&self) -> Result<Object, Bad> {
        match self.own.get("properties") {
            None => Ok(Object::new()),
            Some(Value::Object(properties)) => Ok(properties.clone()),
            Some(_) => Err(Bad::request(format!("`{}.properties` is not an object", self.name))),
        }
    }
}

fn object<'a>(document: &'a Object, name: &str) -> Result<Option<&'a Object>, Bad> {
    match document.get(name) {
        None => Ok(None),
        Some(Value::Object(members)) => Ok(Some(members)),
        Some(_) => Err(Bad::request(format!("`{name}` is not an object"))),
    }
}
