//! What `cargo xtask compose-test` is told.

use anyhow::{Context, Result};

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) full: bool,
    pub(super) keep: bool,
    pub(super) image: Option<String>,
    pub(super) compose: Option<String>,
    pub(super) only: Vec<String>,
    /// What only docker understands.
    pub(super) for_build: Vec<String>,
}

impl Options {
    pub(super) fn of(arguments: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().cloned().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--full" => options.full = true,
                "--keep" => options.keep = true,
                "--image" => options.image = Some(value()?),
                "--compose" => options.compose = Some(value()?),
                "--only" => options.only.push(value()?),
                _ => options.for_build.push(word.clone()),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::Options;

    #[test]
    fn what_is_not_ours_goes_to_docker() {
        let words = "--full --build-arg PROFILE=dev --only review --network=host".split_whitespace();
        let options = Options::of(&words.map(str::to_owned).collect::<Vec<_>>()).unwrap();
        assert!(options.full && !options.keep && options.image.is_none());
        assert_eq!(options.only, ["review"]);
        assert_eq!(options.for_build, ["--build-arg", "PROFILE=dev", "--network=host"]);
        assert!(Options::of(&["--image".to_owned()]).is_err());
    }
}
