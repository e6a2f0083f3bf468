//! Reads the token from a request's `Authorization` header.

use axum::http::{HeaderMap, header};

use crate::token::TokenError;

/// Token of `Authorization: Bearer …`. `None` if there is no `Authorization` header.
///
/// # Errors
/// The header has another form, or there is more than one.
pub(super) fn from_header(headers: &HeaderMap) -> Result<Option<&str>, TokenError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(TokenError::NotBearer);
    }
    let text = value.to_str().map_err(|_| TokenError::NotBearer)?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => {
            Ok(Some(token.trim()))
        }
        _ => Err(TokenError::NotBearer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<Option<String>, TokenError> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        from_header(&headers).map(|token| token.map(str::to_owned))
    }

    #[test]
    fn only_one_bearer_token_is_taken() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["Bearer abc"]), Ok(Some("abc".into())));
        assert_eq!(read(&["bearer  abc "]), Ok(Some("abc".into())));
        for wrong in
            [&["Bearer"][..], &["Bearer "], &["abc"], &["Basic abc"], &[""], &["Bearer a", "Bearer b"]]
        {
            assert_eq!(read(wrong), Err(TokenError::NotBearer), "{wrong:?}");
        }
    }
}
