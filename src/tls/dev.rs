//! Development certificates: a name-constrained CA, a server and a client.

use std::{net::IpAddr, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// The organization in every development certificate.
pub const ORGANIZATION: &str = "Nexus dev CA";

const CA_LIFETIME: Duration = Duration::from_secs(825 * 86_400);
const LEAF_LIFETIME: Duration = Duration::from_secs(90 * 86_400);
/// Ties key and certificate of the archive together (RFC 7292 §4.2, localKeyID).
const PFX_KEY_ID: &str = "1";
/// Certificates begin a little early, for clocks that are behind.
const BACKDATE: Duration = Duration::from_secs(3_600);

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct PemPair {
    pub certificate: String,
    pub key: Secret,
}

/// One CA, one server and one client, in PEM. The CA's key exists only while they are made.
#[derive(Clone, Debug)]
pub struct DevCertificates {
    /// The CA's certificate.
    pub ca: String,
    pub server: PemPair,
    pub client: PemPair,
}

/// The names that every server's certificate has.
pub const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Mints development certificates for loopback and `hosts` (names or IP addresses); `now` is the span since 1970.
///
/// The CA is constrained to loopback, `.test`, `.internal` and `hosts`, so that it is no danger to whoever trusts it.
///
/// # Errors
/// In words, when a host is no name or the cryptography fails.
pub fn mint(hosts: &[String], now: Duration) -> Result<DevCertificates, String> {
    if let Some(bad) = hosts.iter().find(|host| ServerName::try_from(host.trim_start_matches("*.")).is_err()) {
        return Err(format!("{:?} is no name that a certificate can carry", super::shown(bad)));
    }
    let mut names: Vec<String> = LOOPBACK.map(str::to_owned).into();
    names.extend(hosts.iter().filter(|h| !names.contains(h)).cloned().collect::<Vec<_>>());

    let ca_key = new_key()?;
    let mut ca_params = params(Vec::new(), "Nexus development CA", now, CA_LIFETIME)?;
    ca_params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca_params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca_params.name_constraints = Some(NameConstraints { permitted_subtrees: permitted(hosts), excluded_subtrees: Vec::new() });
    let ca = ca_params.self_signed(&ca_key).map_err(|e| e.to_string())?;
    let issuer = Issuer::new(ca_params, ca_key);

    let server = leaf(params(names, "Nexus development server", now, LEAF_LIFETIME)?, ExtendedKeyUsagePurpose::ServerAuth, &issuer)?;
    let client_name = vec!["nexus-client.internal".to_owned()];
    let client = leaf(params(client_name, "Nexus development client", now, LEAF_LIFETIME)?, ExtendedKeyUsagePurpose::ClientAuth, &issuer)?;
    Ok(DevCertificates { ca: ca.pem(), server, client })
}

impl DevCertificates {
    /// The client's certificate, its key and the CA as a PKCS#12 archive (RFC 7292: PBES2 with AES-256, MAC with SHA-256).
    ///
    /// # Errors
    /// In words, when the password holds what an archive cannot express.
    pub fn client_pfx(&self, password: &Secret) -> Result<Zeroizing<Vec<u8>>, String> {
        if password.expose().chars().any(|c| u32::from(c) > 0xffff) {
            return Err("the password holds a character, such as an emoji, that an archive cannot express".to_owned());
        }
        let certificates = [&self.client.certificate, &self.ca].map(|pem| {
            let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| e.to_string())?;
            p12_keystore::Certificate::from_der(&der).map_err(|e| e.to_string())
        });
        let certificates = certificates.into_iter().collect::<Result<Vec<_>, String>>()?;
        let key = PrivateKeyDer::from_pem_slice(self.client.key.expose().as_bytes()).map_err(|e| e.to_string())?;
        let key = p12_keystore::PrivateKey::from_der(key.secret_der()).map_err(|e| e.to_string())?;
        let chain = p12_keystore::PrivateKeyChain::new(PFX_KEY_ID, key, certificates);
        let mut store = p12_keystore::KeyStore::new();
        store.add_entry("nexus-client", p12_keystore::KeyStoreEntry::PrivateKeyChain(chain));
        store.writer(password.expose()).write().map(Zeroizing::new).map_err(|e| e.to_string())
    }
}

fn leaf(mut params: CertificateParams, usage: ExtendedKeyUsagePurpose, issuer: &Issuer<'_, KeyPair>) -> Result<PemPair, String> {
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    let key = new_key()?;
    let certificate = params.signed_by(&key, issuer).map_err(|e| e.to_string())?;
    Ok(PemPair { certificate: certificate.pem(), key: Secret::new(key.serialize_pem()) })
}

fn new_key() -> Result<KeyPair, String> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|e| e.to_string())
}

fn params(names: Vec<String>, common_name: &str, now: Duration, lifetime: Duration) -> Result<CertificateParams, String> {
    let mut params = CertificateParams::new(names).map_err(|e| format!("a host is no valid name: {e}"))?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, ORGANIZATION);
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date(now.saturating_sub(BACKDATE))?;
    params.not_after = date(now.saturating_add(lifetime))?;
    params.serial_number = Some(random_serial()?);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// 16 random bytes, positive (RFC 5280 §4.1.2.2).
fn random_serial() -> Result<SerialNumber, String> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "no random numbers".to_owned())?;
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    Ok(SerialNumber::from_slice(&bytes))
}

fn date(since_1970: Duration) -> Result<OffsetDateTime, String> {
    i64::try_from(since_1970.as_secs())
        .ok()
        .and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok())
        .ok_or_else(|| "the clock is out of range".to_owned())
}

/// What the CA may vouch for (RFC 5280 §4.2.1.10).
fn permitted(hosts: &[String]) -> Vec<GeneralSubtree> {
    let dns = ["localhost", "test", "internal"].map(|name| GeneralSubtree::DnsName(name.to_owned()));
    let loopback =
        [CidrSubnet::from_v4_prefix([127, 0, 0, 0], 8), CidrSubnet::from_addr_prefix(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1_u16]), 128)];
    let own = hosts.iter().map(|host| match host.parse::<IpAddr>() {
        Ok(ip) => GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(ip, if ip.is_ipv4() { 32 } else { 128 })),
        Err(_) => GeneralSubtree::DnsName(host.trim_start_matches("*.").to_owned()),
    });
    dns.into_iter().chain(loopback.into_iter().map(GeneralSubtree::IpAddress)).chain(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::CertificateFacts;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn facts(pem: &str) -> CertificateFacts {
        CertificateFacts::read(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn the_server_has_the_asked_names_and_the_client_may_not_serve() {
        let minted = mint(&["crm.corp".to_owned(), "10.1.2.3".to_owned()], NOW).unwrap();
        let server = facts(&minted.server.certificate);
        assert_eq!(server.names, ["localhost", "127.0.0.1", "::1", "crm.corp", "10.1.2.3"]);
        assert!(server.for_servers && !server.for_clients);
        let client = facts(&minted.client.certificate);
        assert!(client.for_clients && !client.for_servers);
        assert!(facts(&minted.ca).is_ca);
    }

    #[test]
    fn a_leaf_lives_90_days_and_is_already_valid() {
        let server = facts(&mint(&[], NOW).unwrap().server.certificate);
        assert_eq!(server.not_after, 1_800_000_000 + 90 * 86_400);
        assert!(server.not_before < 1_800_000_000);
    }

    #[test]
    fn the_archive_holds_the_clients_own_key_and_chain() {
        let minted = mint(&[], NOW).unwrap();
        let password = Secret::new("pässword");
        let pfx = minted.client_pfx(&password).unwrap();
        let archive = crate::tls::pkcs12::read(&pfx, Some(&password), None, &crate::tls::policy::provider()).unwrap();
        assert_eq!(archive.legacy, None);
        assert_eq!(archive.key, PrivateKeyDer::from_pem_slice(minted.client.key.expose().as_bytes()).unwrap());
        let client = CertificateDer::from_pem_slice(minted.client.certificate.as_bytes()).unwrap();
        assert_eq!(archive.chain.first(), Some(&client));
        assert!(minted.client_pfx(&Secret::new("😀")).is_err());
    }

    #[test]
    fn debug_shows_no_key() {
        let minted = mint(&[], NOW).unwrap();
        assert!(!format!("{minted:?}").contains("PRIVATE KEY"));
    }

    #[test]
    fn a_host_that_is_no_name_is_refused() {
        for host in ["bücher.test", "no name", ""] {
            assert!(mint(&[host.to_owned()], NOW).is_err(), "{host:?}");
        }
    }
}
