use std::fmt::Write as _;

/// What whoever connects has to show.
pub(super) struct Token(String);

impl Token {
    /// 128 random bits.
    pub(super) fn draw() -> anyhow::Result<Self> {
        let mut bytes = [0_u8; 16];
        getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
        let mut text = String::with_capacity(32);
        for byte in bytes {
            write!(text, "{byte:02x}")?;
        }
        Ok(Self(text))
    }

    pub(super) fn shown(&self) -> &str {
        &self.0
    }

    /// Takes as long wherever the difference is.
    pub(super) fn is(&self, shown: &[u8]) -> bool {
        let differing = self.0.bytes().zip(shown).fold(0, |all, (a, b)| all | (a ^ b));
        shown.len() == self.0.len() && differing == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_it() {
        let token = Token::draw().unwrap();
        let text = token.shown().to_owned();
        assert_eq!(text.len(), 32);
        assert!(token.is(text.as_bytes()));
        for wrong in ["", &text[1..], &format!("{text}0"), &"0".repeat(32)] {
            assert!(!token.is(wrong.as_bytes()), "{wrong}");
        }
        assert_ne!(Token::draw().unwrap().shown(), text);
    }
}
