//! Encrypted PKCS#8 (RFC 5958 §3, RFC 8018 §6.2) and the other ways to encrypt a key, which come with a command.

use pkcs8::{
    EncryptedPrivateKeyInfoRef,
    pkcs5::{
        EncryptionScheme,
        pbes2::{self, Kdf},
    },
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{
    files::{Unusable, der_content},
    pem::find,
};
use crate::secret::Secret;

/// Most rounds of a key derivation: about a second. OpenSSL writes 2,048 unless told otherwise, OWASP advises 600,000.
pub(super) const MAX_ROUNDS: u32 = 1_000_000;

/// Most memory that scrypt may take, in bytes; OpenSSL writes parameters that take 16 MiB.
const MAX_SCRYPT_MEMORY: u64 = 256 * 1024 * 1024;

const MAX_SCRYPT_PARALLELISM: u16 = 4;

/// How the key lies in its file, as `openssl -inform` calls it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    Pem,
    Der,
}

/// Whether DER is an `EncryptedPrivateKeyInfo`: it begins with an algorithm of PKCS#5 or PKCS#12, 1.2.840.113549.1.(5|12).
pub(super) fn is_encrypted(der: &[u8]) -> bool {
    let content = der_content(der);
    let start = content.get(..24).unwrap_or(content);
    let password_based = |family: u8| find(start, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, family]).is_some();
    content.first() == Some(&0x30) && (password_based(0x05) || password_based(0x0c))
}

/// Decrypts PBES2 with PBKDF2 or scrypt and AES in CBC mode.
///
/// Takes up to about a second: never call it on a thread of the asynchronous runtime.
pub(super) fn decrypt(der: &[u8], password: Option<&Secret>, form: Form) -> Result<PrivateKeyDer<'static>, Unusable> {
    let Ok(info) = EncryptedPrivateKeyInfoRef::try_from(der) else { return Err(other_scheme(form)) };
    let EncryptionScheme::Pbes2(parameters) = &info.encryption_algorithm else { return Err(other_scheme(form)) };
    check_work(parameters)?;
    let Some(password) = password else {
        return Err(Unusable::password(
            "its private key is encrypted, and no password is configured",
            "set client_key_password to \"{{ env.NAME }}\" or \"{{ file(…) }}\"",
        ));
    };
    let wrong =
        || Unusable::password("its private key cannot be decrypted: the password is wrong, or the file is damaged", PASSWORD_REMEDY);
    // A wrong password mostly breaks the padding; when it does not, what comes out is no key.
    let plain = info.decrypt(password.expose()).map_err(|_| wrong())?;
    let key = PrivatePkcs8KeyDer::from(plain.as_bytes().to_vec());
    Ok(PrivateKeyDer::Pkcs8(key))
}

const PASSWORD_REMEDY: &str = "correct the password; `openssl pkey -in FILE -noout` asks for it and tells whether it is right";

/// `Proc-Type: 4,ENCRYPTED` (RFC 1421): its key derivation is one round of MD5.
pub(super) fn traditional() -> Unusable {
    Unusable::new(
        "its private key is encrypted in OpenSSL's old format, which protects it badly and is not read",
        "convert it: umask 077; openssl pkcs8 -topk8 -in FILE -out FILE.p8, and name that file",
    )
}

fn other_scheme(form: Form) -> Unusable {
    let form = match form {
        Form::Pem => "PEM",
        Form::Der => "DER",
    };
    Unusable::new(
        "its private key is encrypted in a way that is not read; PBES2 with AES is",
        format!("convert it: umask 077; openssl pkey -inform {form} -in FILE | openssl pkcs8 -topk8 -v2 aes-256-cbc -out FILE.p8"),
    )
}

/// The file says how much work it is to open it, so the work is bounded before it begins.
fn check_work(parameters: &pbes2::Parameters) -> Result<(), Unusable> {
    let bounded = match &parameters.kdf {
        Kdf::Pbkdf2(pbkdf2) => pbkdf2.iteration_count <= MAX_ROUNDS,
        Kdf::Scrypt(scrypt) => {
            let memory = scrypt.cost_parameter.checked_mul(u64::from(scrypt.block_size)).and_then(|n| n.checked_mul(128));
            memory.is_some_and(|memory| memory <= MAX_SCRYPT_MEMORY) && scrypt.parallelization <= MAX_SCRYPT_PARALLELISM
        }
        _ => false,
    };
    if bounded {
        return Ok(());
    }
    Err(Unusable::new(
        format!("its private key asks for more work than is done for a key (at most {MAX_ROUNDS} rounds, 256 MiB)"),
        "encrypt it again: umask 077; openssl pkey -in FILE | openssl pkcs8 -topk8 -v2 aes-256-cbc -out FILE.p8",
    ))
}

#[cfg(test)]
mod tests {
    use pkcs8::EncryptedPrivateKeyInfoOwned;

    use super::*;

    fn encrypted(kdf_rounds: u32) -> Vec<u8> {
        let parameters = pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(kdf_rounds, &[7; 16], [9; 16]).unwrap();
        let info = EncryptedPrivateKeyInfoOwned {
            encrypted_data: pkcs8::der::asn1::OctetString::new(parameters.encrypt("right", &[0x30, 0x00]).unwrap()).unwrap(),
            encryption_algorithm: EncryptionScheme::Pbes2(parameters),
        };
        pkcs8::der::Encode::to_der(&info).unwrap()
    }

    #[test]
    fn work_is_bounded_before_it_begins() {
        let cheap = encrypted(1_000);
        assert!(is_encrypted(&cheap));
        assert_eq!(decrypt(&cheap, Some(&Secret::new("right")), Form::Der).unwrap().secret_der(), [0x30, 0x00]);
        let mut parameters = pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(1_000, &[7; 16], [9; 16]).unwrap();
        if let Kdf::Pbkdf2(pbkdf2) = &mut parameters.kdf {
            pbkdf2.iteration_count = MAX_ROUNDS + 1;
        }
        assert!(check_work(&parameters).unwrap_err().what.contains("more work"));
    }
}
