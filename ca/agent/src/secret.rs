//! The secrets of Envoy's secret discovery service (SDS): certificates with keys, and what to verify peers with.
//!
//! Made by `state` from the same SVIDs and bundle that the Workload API serves, once per change, and shared by all
//! streams (AG-05). `service::sds` sends them. A key is copied into memory that is zeroized; nothing here has a `Debug`
//! that shows one.

use std::fmt;

use ca_identity::{Bundle, X509Svid, pem};
use prost::{Message as _, bytes::Bytes};
use zeroize::Zeroizing;

use crate::generated::{
    SharedAny,
    sds::envoy::{
        config::core::v3::{DataSource, TypedExtensionConfig, data_source::Specifier},
        extensions::transport_sockets::tls::v3::{
            CertificateValidationContext, Secret as Wire, SpiffeCertValidatorConfig, TlsCertificate,
            secret::Type, spiffe_cert_validator_config::TrustDomain,
        },
    },
};
use crate::state::Crls;

/// The type of every resource of SDS.
pub(crate) const SECRET_TYPE: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

const VALIDATOR: &str = "envoy.tls.cert_validator.spiffe";
const VALIDATOR_TYPE: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";

/// The names of secrets that are no SPIFFE IDs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SdsNames {
    /// The certificate of the caller's default identity (WA-12).
    pub certificate: String,
    /// What verifies peers of the own trust domain.
    pub bundle: String,
    /// What verifies peers of every trust domain that the caller knows.
    pub bundles: String,
}

impl Default for SdsNames {
    /// The names that Envoy configurations for SPIFFE use.
    fn default() -> Self {
        Self { certificate: "default".to_owned(), bundle: "ROOTCA".to_owned(), bundles: "ALL".to_owned() }
    }
}

/// How an Envoy is told what to verify peers with (SD-03).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Form {
    /// Roots by trust domain, for its SPIFFE validator.
    #[default]
    Spiffe,
    /// Roots alone, for one that has no such validator or must not use it.
    Plain,
}

/// One secret under one name, as it goes over the wire.
#[derive(Clone, PartialEq)]
pub(crate) struct Secret {
    pub(crate) name: String,
    /// Differs whenever the content does; made of what is public.
    pub(crate) version: String,
    /// Something to verify with, no identity.
    pub(crate) is_context: bool,
    body: Bytes,
}

impl Secret {
    /// Certificate and key of an SVID.
    pub(crate) fn certificate(name: &str, svid: &X509Svid) -> Self {
        let chain = pem::write_certificates(&svid.chain);
        let version = version([chain.as_bytes()]);
        let certificate = TlsCertificate {
            certificate_chain: Some(inline(chain.into())),
            private_key: Some(inline(Bytes::from_owner(pem::write_private_key(&svid.key)))),
        };
        Self::new(name, version, Type::TlsCertificate(certificate))
    }

    /// What verifies peers of these trust domains. The plain form knows no domains, so it is for one; it alone takes
    /// revocation lists, of which only those of the authorities that issued leaves are asked for (SD-03).
    pub(crate) fn context(name: &str, bundles: &[&Bundle], crls: &Crls, form: Form) -> Self {
        let texts: Vec<String> =
            bundles.iter().map(|bundle| pem::write_certificates(bundle.certificates())).collect();
        let lists = (form == Form::Plain && !crls.is_empty()).then(|| crls.to_pem());
        let version = version(texts.iter().chain(&lists).map(String::as_bytes));
        let context = match form {
            Form::Plain => CertificateValidationContext {
                trusted_ca: Some(inline(texts.concat().into())),
                only_verify_leaf_cert_crl: lists.is_some(),
                crl: lists.map(|lists| inline(lists.into())),
                ..Default::default()
            },
            Form::Spiffe => {
                let domain = |(bundle, text): (&&Bundle, String)| TrustDomain {
                    name: bundle.trust_domain.to_string(),
                    trust_bundle: Some(inline(text.into())),
                };
                let trust_domains = bundles.iter().zip(texts).map(domain).collect();
                let value = SpiffeCertValidatorConfig { trust_domains }.encode_to_vec().into();
                let config = SharedAny { type_url: VALIDATOR_TYPE.to_owned(), value };
                CertificateValidationContext {
                    custom_validator_config: Some(TypedExtensionConfig {
                        name: VALIDATOR.to_owned(),
                        typed_config: Some(config),
                    }),
                    ..Default::default()
                }
            }
        };
        Self::new(name, version, Type::ValidationContext(context))
    }

    fn new(name: &str, version: String, content: Type) -> Self {
        let is_context = matches!(content, Type::ValidationContext(_));
        let wire = Wire { name: name.to_owned(), r#type: Some(content) };
        // As large as it will be from the start: growing would leave copies of the key behind.
        let mut body = Zeroizing::new(Vec::with_capacity(wire.encoded_len()));
        wire.encode_raw(&mut *body);
        Self { name: name.to_owned(), version, is_context, body: Bytes::from_owner(body) }
    }

    /// One without content, for tests of what is sent when.
    #[cfg(test)]
    pub(crate) fn made(name: &str, version: &str) -> Self {
        let (name, version) = (name.to_owned(), version.to_owned());
        Self { name, version, is_context: false, body: Bytes::new() }
    }

    /// As a resource of a response; shares the bytes.
    pub(crate) fn resource(&self) -> SharedAny {
        SharedAny { type_url: SECRET_TYPE.to_owned(), value: self.body.clone() }
    }

    /// Bytes on the wire.
    pub(crate) fn size(&self) -> usize {
        self.body.len()
    }
}

/// Says which it is; never the key.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("name", &self.name)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// A short name of some content.
pub(crate) fn version<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        digest.update(&part.len().to_be_bytes());
        digest.update(part);
    }
    digest.finish().as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn inline(bytes: Bytes) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineBytes(bytes)) }
}

#[cfg(test)]
mod tests;
