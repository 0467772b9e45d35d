//! The token in an `Authorization` header (RFC 6750 section 2.1).

use crate::wire::{Code, Refusal};

/// The token of a header's value: `Bearer TOKEN`, the scheme in any case.
pub fn from_authorization(value: &str) -> Result<&str, Refusal> {
    // What proxies pass on of a header that wasn't there.
    if value.trim_ascii().is_empty() {
        return Err(missing());
    }
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(invalid(
            "The header does not begin with the word Bearer and a space.",
        ));
    }
    // RFC 9110 section 11.4: any number of spaces.
    let token = token.trim_start_matches(' ');
    if token.is_empty() {
        return Err(invalid("No token follows the word Bearer in the header."));
    }
    if !token.bytes().all(is_of_token68) {
        return Err(invalid(
            "The header has more in it than the word Bearer, a space and a token.",
        ));
    }
    Ok(token)
}

/// No token came with a request that needs one.
pub fn missing() -> Refusal {
    Refusal::new(
        Code::AuthorizationHeaderMissing,
        "No token came with the request.",
        "Send a token; get one with: slurm-token",
    )
}

/// The header that carries a token hasn't the form of one.
pub fn invalid(what: &str) -> Refusal {
    Refusal::new(
        Code::InvalidHeader,
        what,
        "Send one header, `Authorization: Bearer TOKEN`, as `slurm-token --format header` prints it.",
    )
}

/// RFC 9110 section 11.2.
fn is_of_token68(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_may_be_in_any_case_and_any_number_of_spaces_follow() {
        for value in [
            "Bearer a.b.c",
            "bearer a.b.c",
            "BEARER a.b.c",
            "beArer    a.b.c",
        ] {
            assert_eq!(from_authorization(value).as_deref(), Ok("a.b.c"), "{value}");
        }
    }

    #[test]
    fn an_empty_header_is_a_missing_one() {
        for value in ["", " ", "\t "] {
            let refusal = from_authorization(value).unwrap_err();
            assert_eq!(refusal.code, Code::AuthorizationHeaderMissing, "{value:?}");
        }
    }

    #[test]
    fn every_other_form_is_an_invalid_header() {
        for value in [
            "a.b.c",
            "Bearer",
            "Bearer ",
            "Bearera.b.c",
            "Basic YTpi",
            " Bearer a.b.c",
            "Bearer\ta.b.c",
            "Bearer a.b.c ",
            "Bearer a.b.c d.e.f",
            "Bearer a.b.c, Bearer d.e.f",
            "Bearer a.b.c\r\nX: y",
            "Bearer \"a.b.c\"",
            "Bearer a.b\u{2024}c",
        ] {
            let refusal = from_authorization(value).unwrap_err();
            assert_eq!(refusal.code, Code::InvalidHeader, "{value:?}");
        }
    }
}
