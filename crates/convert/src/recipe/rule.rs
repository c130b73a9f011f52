//! Rules of the user: which tensors get which type, by name.

use crate::Error;
use pythia_tensor::TensorType;
use regex::Regex;
use std::fmt;
use std::str::FromStr;

/// `REGEX=TYPE`: every weight matrix whose GGUF name the expression matches anywhere is stored as `TYPE`.
#[derive(Clone, Debug)]
pub struct TypeRule {
    pattern: Regex,
    pub(super) ty: TensorType,
}

impl TypeRule {
    /// The rule that stores the tensor of this GGUF name, and no other, as `ty`.
    ///
    /// # Errors
    /// If the name is too long for a regular expression.
    pub fn exact(tensor: &str, ty: TensorType) -> Result<Self, Error> {
        format!("^{}$={ty}", regex::escape(tensor)).parse()
    }

    /// The rules in a file as `llama-quantize --tensor-type-file` reads it: separated by spaces and line ends. A `#` at
    /// the start of a rule makes the rest of the line a comment; llama-quantize knows no comments.
    ///
    /// # Errors
    /// If one is no rule; the message begins with its line. If there is none.
    pub fn parse_file(text: &str) -> Result<Vec<Self>, Error> {
        let mut rules = Vec::new();
        // Some editors begin a file with a byte order mark.
        for (line, number) in text.trim_start_matches('\u{feff}').lines().zip(1..) {
            for word in line.split_whitespace().take_while(|word| !word.starts_with('#')) {
                let rule = word.parse().map_err(|e| Error::Request(format!("line {number}: {e}")))?;
                rules.push(rule);
            }
        }
        if rules.is_empty() {
            return Err(Error::Request("holds no rule, wanted lines of the form REGEX=TYPE".to_owned()));
        }
        Ok(rules)
    }

    /// The expression.
    pub fn pattern(&self) -> &Regex {
        &self.pattern
    }

    /// Whether it is about the matrix of this GGUF name.
    pub(super) fn matches(&self, tensor: &str) -> bool {
        self.pattern.is_match(tensor)
    }
}

impl fmt::Display for TypeRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.pattern, self.ty)
    }
}

impl FromStr for TypeRule {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        // The last `=`: an expression may contain one, a type name cannot.
        let (pattern, ty) =
            s.rsplit_once('=').ok_or_else(|| Error::Request(format!("rule '{s}' is not of the form REGEX=TYPE")))?;
        let ty = ty.parse().map_err(|e| Error::Request(format!("rule '{s}': {e}")))?;
        let pattern = Regex::new(pattern).map_err(|e| Error::Request(format!("rule '{s}': {}", one_line(&e))))?;
        Ok(Self { pattern, ty })
    }
}

/// The last line of a regex error, which states the problem. The lines before show the position.
fn one_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or("not a regular expression");
    last.trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_rules_are_refused_in_one_line() {
        for rule in ["ffn_up", "ffn_up=", "ffn_up=Q9", "(=Q8_0", "a{99999999}=F16"] {
            let error = rule.parse::<TypeRule>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("rule '{rule}'")) && !error.contains('\n'), "{error}");
        }
        assert_eq!("(a=b)=q8_0".parse::<TypeRule>().unwrap().to_string(), "(a=b)=Q8_0");
    }

    #[test]
    fn exact_rules_match_one_name_and_can_be_typed() {
        let rule = TypeRule::exact("blk.1.ffn_up.weight", TensorType::Q5_K).unwrap();
        assert_eq!(rule.to_string(), r"^blk\.1\.ffn_up\.weight$=Q5_K");
        for rule in [&rule, &rule.to_string().parse().unwrap()] {
            assert!(rule.matches("blk.1.ffn_up.weight"));
            for other in ["blk.11.ffn_up.weight", "blk.1.ffn_up.weights", "blk-1.ffn_up.weight", ""] {
                assert!(!rule.matches(other), "{other}");
            }
        }
    }

    #[test]
    fn files_hold_rules_and_comments() {
        let shown = |text: &str| -> Result<Vec<String>, String> {
            let rules = TypeRule::parse_file(text).map_err(|e| e.to_string())?;
            Ok(rules.iter().map(ToString::to_string).collect())
        };
        let text = "# my mix\n\n  attn_qkv=q5_k \t ffn_(up|down)=Q4_K\r\noutput#=F16 # the head\n#x=Q9\n";
        assert_eq!(shown(text).unwrap(), ["attn_qkv=Q5_K", "ffn_(up|down)=Q4_K", "output#=F16"]);
        let error = shown("a=F16\n# b\nc=Q4_0 d\n").unwrap_err();
        assert_eq!(error, "line 3: rule 'd' is not of the form REGEX=TYPE");
        assert!(shown("a=F16\n\nx=Q9").unwrap_err().starts_with("line 3: rule 'x=Q9': "));
        for text in ["", " \n", "# nothing\n"] {
            assert_eq!(shown(text).unwrap_err(), "holds no rule, wanted lines of the form REGEX=TYPE");
        }
    }
}
