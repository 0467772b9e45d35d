//! One RSA key as a JWK (RFC 7517 section 4, RFC 7518 section 6.3), public or
//! private. Sets of public keys are in [`super::jwks`].

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rsa::pkcs1::{self, UintRef};
use rsa::pkcs8::der::{self, Decode as _, Encode as _};
use serde::Deserialize;
use serde::de::IgnoredAny;
use zeroize::Zeroizing;

use super::Kid;
use super::file::SecretBytes;
use super::format::{PublicKey, Rejection, private_pkcs1};
use super::jwks::{Jwk, JwkSet, JwksRejection};

/// A JWK as it is written. The numbers are borrowed from the file's bytes, so
/// that no copy of a private one has to be wiped; base64url needs no escapes.
#[derive(Deserialize)]
struct Written<'a> {
    kty: Option<Cow<'a, str>>,
    kid: Option<Cow<'a, str>>,
    #[serde(rename = "use")]
    usage: Option<Cow<'a, str>>,
    alg: Option<Cow<'a, str>>,
    n: Option<&'a str>,
    e: Option<&'a str>,
    d: Option<&'a str>,
    p: Option<&'a str>,
    q: Option<&'a str>,
    dp: Option<&'a str>,
    dq: Option<&'a str>,
    qi: Option<&'a str>,
    oth: Option<IgnoredAny>,
    k: Option<IgnoredAny>,
    keys: Option<IgnoredAny>,
}

/// Do bytes look like JSON, so that PEM isn't what to look for in them.
pub(super) fn is_json(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"{")
}

/// The public key in a public JWK, and its name there.
pub(super) fn public(bytes: &[u8]) -> Result<(PublicKey, Option<String>), Rejection> {
    let jwk = read(bytes)?;
    if jwk.is_private() {
        return Err(Rejection::PrivateKey);
    }
    Ok((jwk.public_key()?, jwk.name()))
}

/// The private key in a JWK, in PKCS#1 (RFC 8017 appendix A.1.2), and its name
/// there.
pub(super) fn private(bytes: &[u8]) -> Result<(Zeroizing<Vec<u8>>, Option<String>), Rejection> {
    let jwk = read(bytes)?;
    if !jwk.is_private() {
        return Err(Rejection::PublicKey);
    }
    if jwk.oth.is_some() {
        let kind = "an RSA key of more than two primes".into();
        return Err(Rejection::NotRsa { kind });
    }
    let members = [jwk.n, jwk.e, jwk.d, jwk.p, jwk.q, jwk.dp, jwk.dq, jwk.qi];
    let mut numbers = Vec::with_capacity(members.len());
    for member in members {
        numbers.push(number(member.ok_or(Rejection::JwkIncomplete)?)?);
    }
    let encode = || -> der::Result<Vec<u8>> {
        let uint = |index: usize| UintRef::new(&numbers[index]);
        pkcs1::RsaPrivateKey {
            modulus: uint(0)?,
            public_exponent: uint(1)?,
            private_exponent: uint(2)?,
            prime1: uint(3)?,
            prime2: uint(4)?,
            exponent1: uint(5)?,
            exponent2: uint(6)?,
            coefficient: uint(7)?,
            other_prime_infos: None,
        }
        .to_der()
    };
    let der = encode().map_err(|_| Rejection::Malformed)?;
    Ok((Zeroizing::new(der), jwk.name()))
}

/// The private JWK of a key in any encoding that signs, on one line.
pub fn private_jwk(bytes: &SecretBytes, kid: Option<Kid>) -> Result<SecretBytes, Rejection> {
    let (der, name) = private_pkcs1(bytes.as_slice())?;
    let key = pkcs1::RsaPrivateKey::from_der(&der).map_err(|_| Rejection::Malformed)?;
    let public =
        PublicKey::from_components(key.modulus.as_bytes(), key.public_exponent.as_bytes())?;
    let kid = public.kid(kid, name.as_deref())?;
    let mut jwk = Jwk::new(&public, &kid).to_json();
    jwk.pop();
    // Never grown: a vector that grows leaves a copy of its bytes behind. Each
    // number is at most as long as the modulus.
    let mut text = Zeroizing::new(String::with_capacity(jwk.len() + 6 * (jwk.len() + 8) + 2));
    text.push_str(&jwk);
    for (name, number) in [
        ("d", key.private_exponent),
        ("p", key.prime1),
        ("q", key.prime2),
        ("dp", key.exponent1),
        ("dq", key.exponent2),
        ("qi", key.coefficient),
    ] {
        text.push_str(",\"");
        text.push_str(name);
        text.push_str("\":\"");
        URL_SAFE_NO_PAD.encode_string(number.as_bytes(), &mut text);
        text.push('"');
    }
    text.push_str("}\n");
    Ok(SecretBytes::new(std::mem::take(&mut *text).into_bytes()))
}

fn read(bytes: &[u8]) -> Result<Written<'_>, Rejection> {
    let jwk: Written<'_> = serde_json::from_slice(bytes).map_err(|e| {
        if e.is_data() {
            Rejection::Malformed
        } else {
            Rejection::Json
        }
    })?;
    let other = |kind: String| Err(Rejection::NotRsa { kind });
    if jwk.keys.is_some() {
        return Err(match JwkSet::parse(bytes) {
            Err(JwksRejection::Private { .. }) => Rejection::PrivateInSet,
            _ => Rejection::KeySet,
        });
    }
    match jwk.kty.as_deref() {
        Some("RSA") => {}
        Some("oct") => return other("a secret in a JWK (kty \"oct\")".into()),
        Some(kty) => return other(format!("a JWK of kty {kty:?}")),
        None => return Err(Rejection::Json),
    }
    if let Some(usage) = jwk.usage.as_deref().filter(|usage| *usage != "sig") {
        return other(format!("a JWK for {usage:?}, not for signatures"));
    }
    if let Some(alg) = jwk.alg.as_deref().filter(|alg| *alg != "RS256") {
        return other(format!("a JWK for {alg:?}"));
    }
    Ok(jwk)
}

impl Written<'_> {
    fn is_private(&self) -> bool {
        let numbers = [self.d, self.p, self.q, self.dp, self.dq, self.qi];
        numbers.iter().any(Option::is_some) || self.oth.is_some() || self.k.is_some()
    }

    fn public_key(&self) -> Result<PublicKey, Rejection> {
        let [n, e] = [self.n, self.e].map(|member| member.ok_or(Rejection::JwkIncomplete));
        super::jwks::public_key(n?, e?)
    }

    fn name(&self) -> Option<String> {
        self.kid.clone().map(Cow::into_owned)
    }
}

fn number(text: &str) -> Result<Zeroizing<Vec<u8>>, Rejection> {
    let bytes = URL_SAFE_NO_PAD.decode(text);
    bytes.map(Zeroizing::new).map_err(|_| Rejection::Malformed)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::keys::Algorithm;
    use crate::keys::format::signing_key;

    /// The key of RFC 7515 appendix A.2.1.
    fn rfc_7515() -> Value {
        json!({
            "kty": "RSA",
            "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
            "e": "AQAB",
            "d": "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ",
            "p": "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc",
            "q": "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc",
            "dp": "BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvnLQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-FOKnu1R6HsJeDCjn12Sk3vmAktV2zb34MCdy7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0",
            "dq": "h_96-mK1R_7glhsum81dZxjTnYynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0ajaHF-NKJnwgjMd2w9cjz3_-kyNlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU",
            "qi": "IYd7DHOhrWvxkwPQsRM2tOgrjbcrfvtQJipd-DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd_QJQ3ydy5cY7YIBi87w93IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp_gh6A5603k2-ZQwVK0JKSHuLFkuQ3U"
        })
    }

    fn rs256(jwk: &Value) -> Result<crate::keys::format::SigningKey, Rejection> {
        let bytes = SecretBytes::new(jwk.to_string().into_bytes());
        signing_key(&bytes, Algorithm::Rs256, None)
    }

    fn rejection_with(member: &str, value: Value) -> Rejection {
        let mut jwk = rfc_7515();
        jwk[member] = value;
        rs256(&jwk).unwrap_err()
    }

    /// The public members of a key alone.
    fn public_of(mut jwk: Value) -> Value {
        let members = ["kty", "kid", "n", "e"];
        let map = jwk.as_object_mut().unwrap();
        map.retain(|name, _| members.contains(&name.as_str()));
        jwk
    }

    #[test]
    fn the_key_of_rfc_7515_appendix_a_2_makes_the_signature_there() {
        let input = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtc\
                     GxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = rs256(&rfc_7515()).unwrap().sign(input.as_bytes()).unwrap();
        assert_eq!(
            URL_SAFE_NO_PAD.encode(signature),
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5\
             jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb\
             1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QO\
             YEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
        );
    }

    #[test]
    fn a_jwks_name_is_the_keys_unless_another_is_given() {
        let mut jwk = rfc_7515();
        let unnamed = rs256(&jwk).unwrap();
        assert_eq!(*unnamed.kid(), unnamed.public().unwrap().thumbprint());
        jwk["kid"] = json!("login1");
        assert_eq!(rs256(&jwk).unwrap().kid().as_str(), "login1");
        let bytes = SecretBytes::new(jwk.to_string().into_bytes());
        let named = signing_key(&bytes, Algorithm::Rs256, Kid::new("other")).unwrap();
        assert_eq!(named.kid().as_str(), "other");
    }

    #[test]
    fn a_name_that_no_kid_can_be_is_refused_where_it_would_count() {
        let mut jwk = rfc_7515();
        jwk["kid"] = json!("../login1");
        assert_eq!(rs256(&jwk).unwrap_err(), Rejection::JwkKid);
        let bytes = SecretBytes::new(jwk.to_string().into_bytes());
        assert!(signing_key(&bytes, Algorithm::Rs256, Kid::new("login1")).is_ok());
    }

    #[test]
    fn a_private_jwk_is_written_as_it_is_read() {
        let bytes = SecretBytes::new(rfc_7515().to_string().into_bytes());
        let text = private_jwk(&bytes, Kid::new("login1")).unwrap();
        let mut again: Value = serde_json::from_slice(text.as_slice()).unwrap();
        for (member, value) in [("kid", "login1"), ("use", "sig"), ("alg", "RS256")] {
            assert_eq!(
                again.as_object_mut().unwrap().remove(member),
                Some(json!(value))
            );
        }
        assert_eq!(again, rfc_7515());
    }

    #[test]
    fn a_public_jwk_verifies_and_does_not_sign() {
        let jwk = public_of(rfc_7515());
        let (key, kid) = PublicKey::read(jwk.to_string().as_bytes()).unwrap();
        assert_eq!((key.bits(), kid), (2048, None));
        assert_eq!(rs256(&jwk).unwrap_err(), Rejection::PublicKey);
    }

    #[test]
    fn a_private_jwk_is_refused_where_a_public_one_is_read() {
        for member in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            let mut jwk = public_of(rfc_7515());
            jwk[member] = json!("AQAB");
            let read = PublicKey::read(jwk.to_string().as_bytes());
            assert_eq!(read.unwrap_err(), Rejection::PrivateKey, "{member}");
        }
    }

    #[test]
    fn an_incomplete_or_broken_jwk_is_refused() {
        for member in ["n", "e", "d", "p", "q", "dp", "dq", "qi"] {
            let incomplete = rejection_with(member, Value::Null);
            assert_eq!(incomplete, Rejection::JwkIncomplete, "{member}");
            assert_eq!(
                rejection_with(member, json!(1)),
                Rejection::Malformed,
                "{member}"
            );
            assert_eq!(
                rejection_with(member, json!("=")),
                Rejection::Malformed,
                "{member}"
            );
        }
        let other = rfc_7515()["q"].clone();
        assert_eq!(rejection_with("p", other), Rejection::Inconsistent);
        let twice = rfc_7515().to_string().replacen('{', "{\"d\":\"AQAB\",", 1);
        let bytes = SecretBytes::new(twice.into_bytes());
        let rejection = signing_key(&bytes, Algorithm::Rs256, None).unwrap_err();
        assert_eq!(rejection, Rejection::Malformed);
    }

    #[test]
    fn a_jwk_for_something_else_says_what_it_is_for() {
        for (member, value, kind) in [
            ("kty", "EC", "a JWK of kty \"EC\""),
            ("kty", "oct", "a secret in a JWK (kty \"oct\")"),
            ("use", "enc", "a JWK for \"enc\", not for signatures"),
            ("alg", "RS512", "a JWK for \"RS512\""),
        ] {
            let kind = kind.to_owned();
            assert_eq!(
                rejection_with(member, json!(value)),
                Rejection::NotRsa { kind }
            );
        }
        assert_eq!(rejection_with("kty", Value::Null), Rejection::Json);
    }

    #[test]
    fn a_set_is_not_taken_for_a_key_and_a_private_one_is_called_stolen() {
        let read = |set: &Value| PublicKey::read(set.to_string().as_bytes()).unwrap_err();
        let public = public_of(rfc_7515());
        assert_eq!(read(&json!({ "keys": [public] })), Rejection::KeySet);
        let private = json!({ "keys": [rfc_7515()] });
        assert_eq!(read(&private), Rejection::PrivateInSet);
        assert_eq!(rs256(&private).unwrap_err(), Rejection::PrivateInSet);
    }

    #[test]
    fn a_public_jwk_or_set_is_no_secret_for_hs256() {
        let key =
            json!({"kty": "RSA", "kid": "a", "alg": "RS256", "n": rfc_7515()["n"], "e": "AQAB"});
        for text in [key.to_string(), json!({ "keys": [key] }).to_string()] {
            let bytes = SecretBytes::new(text.into_bytes());
            let rejection = signing_key(&bytes, Algorithm::Hs256, Kid::new("a")).unwrap_err();
            assert_eq!(rejection, Rejection::SecretIsPublic);
        }
    }
}
