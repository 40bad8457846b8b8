//! `svid mint`: an SVID without a registration entry, by an administrator's word. The key is made here and goes nowhere.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ca_agent::client::X509Context;
use ca_identity::{Bundle, BundleMap, CertificateDer, PrivateKey, SpiffeId, X509Svid, csr};
use clap::Args;
use serde_json::{Value, json};

use super::super::Global;
use super::files;
use crate::client::Fault;
use crate::messages::Message;
use crate::output::{Answer, Exit};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The identity
    #[arg(value_name = "SPIFFE_ID", value_parser = SpiffeId::parse)]
    id: SpiffeId,
    /// Directory for svid.pem, svid.key and bundle.pem
    #[arg(long)]
    dir: PathBuf,
    /// A DNS name in the certificate; repeat for several
    #[arg(long = "dns-name", value_name = "NAME")]
    dns_names: Vec<String>,
    /// How long it is valid [default: as the authority does it]
    #[arg(long, value_parser = super::super::run::parse_duration)]
    ttl: Option<Duration>,
}

pub(super) fn run(options: Options, global: &Global) -> Exit {
    global.ask(|client| async move {
        let unusable = |error: &dyn std::fmt::Display| {
            let text = format!("the answer of the authority cannot be used: {error}");
            Fault::new(Exit::Failed, Message::error("PC1001", text))
        };
        let key = PrivateKey::generate_p256().map_err(|error| unusable(&error))?;
        let request = csr::build(&key, &options.dns_names).map_err(|error| unusable(&error))?;
        let body = json!({
            "spiffe_id": options.id.as_str(),
            "dns_names": options.dns_names,
            "ttl": options.ttl.map(|ttl| format!("{}s", ttl.as_secs())),
            "csr": STANDARD.encode(request),
        });
        let answer = client.post("/v1/svids:mint", &body).await?;
        let svid = X509Svid::new(certificates(&answer, "/chain").map_err(|error| unusable(&error))?, key);
        let svid = svid.map_err(|error| unusable(&error))?;
        let roots = certificates(&answer, "/bundle/authorities").map_err(|error| unusable(&error))?;
        let bundle = Bundle::new(svid.id.trust_domain().clone(), roots, 0).map_err(|error| unusable(&error))?;
        let context = X509Context { svids: vec![svid], bundles: BundleMap::of(Arc::new(bundle)) };
        let svid = files::store(&options.dir, &context)?;
        let text = format!(
            "wrote svid.pem, svid.key, bundle.pem to {}: {} until {}\nnobody renews it\nundo: portcullis svid revoke --serial {} --reason TEXT --yes",
            options.dir.display(),
            svid.id,
            svid.not_after,
            svid.serial
        );
        let mut about = super::about(svid);
        if let Some(members) = about.as_object_mut() {
            members.insert("dir".to_owned(), json!(options.dir.display().to_string()));
            members.insert("ttl_clamped".to_owned(), answer.get("ttl_clamped").cloned().unwrap_or_default());
        }
        Ok((Answer::object("MintedSvid", about, text), Exit::Done))
    })
}

fn certificates(answer: &Value, at: &str) -> Result<Vec<CertificateDer<'static>>, base64::DecodeError> {
    let list = answer.pointer(at).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(|der| STANDARD.decode(der).map(CertificateDer::from)).collect()
}
