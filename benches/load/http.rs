//! HTTP/1.1 as the load tool speaks it: one request, always the same, and an answer of a known
//! length.

use memchr::memmem;

use crate::Failure;

/// Asks for a token, as a process does for itself.
pub fn authenticate() -> Vec<u8> {
    let body = "{\"lifespan\":600}";
    format!(
        "POST /authenticate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Shows a token, as a proxy does for each request that it lets in.
pub fn verify(token: &str) -> Vec<u8> {
    format!("GET /verify HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n")
        .into_bytes()
}

/// Where the body stands in what has arrived: the end of the head, and the end of all, which may
/// not be there yet. None while the head isn't whole.
///
/// A client that read each header would be slower than the servers that it measures.
pub fn frame(arrived: &[u8]) -> Result<Option<(usize, usize)>, Failure> {
    let Some(head) = memmem::find(arrived, b"\r\n\r\n") else {
        return Ok(None);
    };
    let body = head + 4;
    if !arrived.starts_with(b"HTTP/1.1 200 ") {
        // A refusal holds no token.
        return Err(format!("refused: {}", arrived.escape_ascii()).into());
    }
    let length = [b"\r\nContent-Length: ", b"\r\ncontent-length: "]
        .iter()
        .find_map(|name| Some(memmem::find(&arrived[..head], *name)? + name.len()))
        .ok_or("an answer without a length")?;
    let digits = arrived[length..].iter().take_while(|b| b.is_ascii_digit());
    let length = digits.fold(0, |length, digit| 10 * length + usize::from(digit - b'0'));
    Ok(Some((body, body + length)))
}
