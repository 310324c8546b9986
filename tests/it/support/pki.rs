//! Certificates minted in the test: authorities, and the odd leaves they sign.

#![allow(clippy::unwrap_used, reason = "a test that cannot mint its certificates has failed")]

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A certificate chain, leaf first, with the leaf's key.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Chain {
    pub(crate) fn clone_key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    /// What a server sends that was set up without its intermediates.
    pub(crate) fn leaf_only(mut self) -> Self {
        self.certificates.truncate(1);
        self
    }

    /// What somebody who holds the key of this server's leaf can sign with it.
    pub(crate) fn misused_as_ca(&self, leaf: Leaf) -> Self {
        let key = KeyPair::try_from(&self.clone_key()).unwrap();
        let leaf_as_ca =
            Authority { issuer: Issuer::new(plain("a server", &[]), key), certificate: self.certificates[0].clone(), above: Vec::new() };
        leaf_as_ca.sign(leaf.common_name("a forgery"))
    }

    pub(crate) fn pem(&self) -> String {
        self.certificates.iter().map(|c| pem("CERTIFICATE", c)).collect()
    }

    /// The serial number of the leaf.
    pub(crate) fn serial(&self) -> SerialNumber {
        let (_, leaf) = x509_parser::parse_x509_certificate(&self.certificates[0]).unwrap();
        SerialNumber::from_slice(leaf.raw_serial())
    }

    pub(crate) fn key_pem(&self) -> String {
        pem("PRIVATE KEY", self.key.secret_der())
    }
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A certificate authority, root or intermediate.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// Above it, nearest first, without the root.
    above: Vec<CertificateDer<'static>>,
}

impl Authority {
    pub(crate) fn root(name: &str) -> Self {
        let (params, key) = (authority(name), KeyPair::generate().unwrap());
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), certificate, above: Vec::new() }
    }

    pub(crate) fn expired_root(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = authority(name);
        params.not_after = date_time_ymd(2021, 1, 1);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), certificate, above: Vec::new() }
    }

    pub(crate) fn intermediate(&self, name: &str) -> Self {
        self.intermediate_until(name, 2090)
    }

    pub(crate) fn intermediate_until(&self, name: &str, year: i32) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = authority(name);
        params.not_after = date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let mut above = vec![certificate.clone()];
        above.extend(self.above.iter().cloned());
        Self { issuer: Issuer::new(params, key), certificate, above }
    }

    /// An odd one.
    pub(crate) fn intermediate_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = authority(name);
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let mut above = vec![certificate.clone()];
        above.extend(self.above.iter().cloned());
        Self { issuer: Issuer::new(params, key), certificate, above }
    }

    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub(crate) fn pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// A revocation list with these leaves on it, the `number`th; PEM.
    pub(crate) fn revoke(&self, leaves: &[&Chain], number: u64) -> String {
        pem("X509 CRL", &self.list(leaves, number, 2090))
    }

    /// Its revocation list of 2021, in DER, to be renewed at the beginning of `next_year`.
    pub(crate) fn crl(&self, revoked: &[&Chain], next_year: i32) -> Vec<u8> {
        self.list(revoked, 7, next_year)
    }

    fn list(&self, revoked: &[&Chain], number: u64, next_year: i32) -> Vec<u8> {
        let revoked = revoked.iter().map(|chain| RevokedCertParams {
            serial_number: chain.serial(),
            revocation_time: date_time_ymd(2020, 6, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 1),
            next_update: date_time_ymd(next_year, 1, 1),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().der().to_vec()
    }

    pub(crate) fn sign(&self, leaf: Leaf) -> Chain {
        let (Leaf(params), key) = (leaf, KeyPair::generate().unwrap());
        let mut certificates = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        certificates.extend(self.above.iter().cloned());
        Chain { certificates, key: key_der(&key) }
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = plain(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::OrganizationName, name.split(' ').next().unwrap());
    params
}

/// An end-entity certificate to be; valid from 2020 to 2090 unless told otherwise.
pub(crate) struct Leaf(CertificateParams);

impl Leaf {
    pub(crate) fn server(names: &[&str]) -> Self {
        let mut params = plain("a server", names);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Self(params)
    }

    pub(crate) fn client(common_name: &str) -> Self {
        let mut params = plain(common_name, &[]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Self(params)
    }

    pub(crate) fn set(mut self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        change(&mut self.0);
        self
    }

    pub(crate) fn expired(mut self) -> Self {
        self.0.not_after = date_time_ymd(2021, 1, 1);
        self
    }

    /// Ends so many days from now.
    pub(crate) fn ends_in(mut self, days: i64) -> Self {
        self.0.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(days) + time::Duration::hours(1);
        self
    }

    pub(crate) fn not_yet_valid(mut self) -> Self {
        self.0.not_before = date_time_ymd(2089, 1, 1);
        self
    }

    pub(crate) fn common_name(mut self, name: &str) -> Self {
        self.0.distinguished_name.push(DnType::CommonName, name);
        self
    }

    /// One more subject alternative name.
    pub(crate) fn uri(mut self, uri: &str) -> Self {
        self.0.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
        self
    }

    /// As `openssl req -x509` makes them.
    pub(crate) fn with_ca_flag(mut self) -> Self {
        self.0.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self
    }

    /// webpki cannot read such a certificate.
    pub(crate) fn with_unknown_critical_extension(mut self) -> Self {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
        extension.set_criticality(true);
        self.0.custom_extensions.push(extension);
        self
    }

    pub(crate) fn self_signed(self) -> Chain {
        let key = KeyPair::generate().unwrap();
        let certificate = self.0.self_signed(&key).unwrap().der().clone();
        Chain { certificates: vec![certificate], key: key_der(&key) }
    }
}

fn plain(common_name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2090, 1, 1);
    params
}

fn key_der(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(key.serialize_der()).into()
}
