//! Which tensor gets which type.
//!
//! A [`Level`] is the type of a whole file, which a user names with `-t`. Its row in the table below has the type of
//! most matrices and the exceptions. The rows are llama.cpp's (`src/llama-quant.cpp` for an untied `gptneox` model), so
//! that files of the same name hold the same types in both projects.

mod rule;

pub use rule::TypeRule;

use crate::Error;
use pythia_gguf::FileType;
use pythia_schema::{Kind, TensorSpec};
use pythia_tensor::TensorType;
use pythia_text::nearest_name;
use std::fmt;
use std::str::FromStr;

/// An exception of a level: the kind of tensor, the layers, and the type. Of several that apply, the first counts.
type Exception = (Kind, Where, TensorType);

/// The layers of an exception. `layers / n` is rounded down.
#[derive(Clone, Copy)]
enum Where {
    /// All of them, and tensors outside blocks.
    All,
    /// The first few.
    First(usize),
    /// The first `layers / n`.
    FirstPart(usize),
    /// All but the first and the last eighth.
    Middle,
    /// The first and the last eighth, and every third between.
    MoreBits,
    /// The first `layers / n`, without importances.
    FirstPartPlain(usize),
    /// The first `layers / n`, with importances.
    FirstPartWeighted(usize),
}

impl Where {
    fn holds(self, mix: &Mix, layer: Option<usize>) -> bool {
        let Some(layer) = layer else { return matches!(self, Self::All) };
        let first_part = |n: usize| layer < mix.layers / n;
        let (head, tail) = (mix.layers / 8, 7 * mix.layers / 8);
        match self {
            Self::All => true,
            Self::First(n) => layer < n,
            Self::FirstPart(n) => first_part(n),
            Self::Middle => layer >= head && layer < tail,
            Self::MoreBits => layer < head || layer >= tail || (layer - head) % 3 == 2,
            Self::FirstPartPlain(n) => !mix.weighted && first_part(n),
            Self::FirstPartWeighted(n) => mix.weighted && first_part(n),
        }
    }
}

/// What an exception depends on in addition to the tensor.
struct Mix {
    /// Blocks of the model.
    layers: usize,
    /// Whether importances are known.
    weighted: bool,
}

macro_rules! levels {
    ($(($level:ident, base = $base:ident, [$(($kind:ident, $where:expr, $ty:ident)),* $(,)?]),)*) => {
        /// The type of a whole file, as in `pythia-70m-Q4_0.gguf`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(non_camel_case_types)] // the names the field uses
        pub enum Level {
            $(#[doc = concat!("Most matrices in ", stringify!($base), ".")] $level,)*
        }

        impl Level {
            /// Every level, largest first.
            pub const ALL: &[Self] = &[$(Self::$level),*];

            /// Its name in capitals, as in file names.
            pub const fn name(self) -> &'static str {
                self.file_type().name()
            }

            /// Its value of `general.file_type`.
            pub const fn file_type(self) -> FileType {
                match self { $(Self::$level => FileType::$level,)* }
            }

            /// The type of matrices without an exception, an option or a fallback.
            pub const fn base(self) -> TensorType {
                match self { $(Self::$level => TensorType::$base,)* }
            }

            const fn exceptions(self) -> &'static [Exception] {
                use Where::*;
                match self { $(Self::$level => &[$((Kind::$kind, $where, TensorType::$ty)),*],)* }
            }
        }
    };
}

levels! {
    (F32, base = F32, []),
    (F16, base = F16, []),
    (BF16, base = BF16, []),
    (Q8_0, base = Q8_0, []),
    (Q6_K, base = Q6_K, []),
    (Q5_1, base = Q5_1, [(Output, All, Q6_K)]),
    (Q5_K_M, base = Q5_K, [(Output, All, Q6_K), (AttnQkv, MoreBits, Q6_K), (FfnDown, MoreBits, Q6_K)]),
    (Q5_K_S, base = Q5_K, [(Output, All, Q6_K)]),
    (Q5_0, base = Q5_0, [(Output, All, Q6_K), (FfnDown, FirstPartWeighted(8), Q5_1)]),
    (Q4_1, base = Q4_1, [(Output, All, Q6_K)]),
    (Q4_K_M, base = Q4_K, [(Output, All, Q6_K), (AttnQkv, MoreBits, Q6_K), (FfnDown, MoreBits, Q6_K)]),
    (Q4_K_S, base = Q4_K, [(Output, All, Q6_K), (AttnQkv, First(4), Q5_K), (FfnDown, FirstPart(8), Q5_K)]),
    (IQ4_NL, base = IQ4_NL, [(Output, All, Q6_K), (FfnDown, FirstPartPlain(8), Q5_K)]),
    (Q4_0, base = Q4_0, [(Output, All, Q6_K), (FfnDown, FirstPartWeighted(8), Q4_1)]),
    (IQ4_XS, base = IQ4_XS, [(Output, All, Q6_K), (FfnDown, FirstPartPlain(8), Q5_K)]),
    (Q3_K_L, base = Q3_K, [(Output, All, Q6_K), (AttnQkv, All, Q5_K), (AttnOutput, All, Q5_K), (FfnDown, All, Q5_K)]),
    (Q3_K_M, base = Q3_K, [
        (Output, All, Q6_K),
        (AttnQkv, First(2), Q5_K),
        (AttnQkv, All, Q4_K),
        (AttnOutput, All, Q4_K),
        (FfnDown, FirstPart(16), Q5_K),
        (FfnDown, All, Q4_K),
    ]),
    (IQ3_M, base = IQ3_S, [
        (Output, All, Q6_K),
        (AttnQkv, All, Q4_K),
        (AttnOutput, All, Q4_K),
        (FfnDown, FirstPart(8), Q4_K),
    ]),
    (Q3_K_S, base = Q3_K, [(Output, All, Q6_K)]),
    (IQ3_S, base = IQ3_S, [(Output, All, Q6_K)]),
    (IQ3_XS, base = IQ3_S, [(Output, All, Q6_K), (FfnUp, Middle, IQ3_XXS)]),
    (IQ3_XXS, base = IQ3_XXS, [(Output, All, Q5_K), (TokenEmbd, All, IQ3_S), (AttnOutput, All, IQ3_S)]),
    (Q2_K, base = Q2_K, [(Output, All, Q6_K), (AttnQkv, All, Q3_K), (AttnOutput, All, Q3_K), (FfnDown, All, Q3_K)]),
    (IQ2_M, base = IQ2_S, [
        (Output, All, Q5_K),
        (TokenEmbd, All, IQ3_S),
        (AttnQkv, All, IQ3_S),
        (AttnOutput, All, IQ3_S),
        (FfnDown, FirstPart(8), IQ3_S),
    ]),
    (IQ2_S, base = IQ2_XS, [
        (Output, All, Q5_K),
        (TokenEmbd, All, IQ3_S),
        (AttnQkv, All, IQ3_S),
        (AttnOutput, All, IQ3_S),
        (FfnDown, FirstPart(8), IQ3_S),
    ]),
    (Q2_K_S, base = Q2_K, [(Output, All, Q6_K), (FfnDown, FirstPart(8), Q4_K)]),
    (IQ2_XS, base = IQ2_XS, [
        (Output, All, Q5_K),
        (TokenEmbd, All, Q2_K),
        (AttnQkv, All, Q2_K),
        (FfnDown, FirstPart(8), Q2_K),
    ]),
    (IQ2_XXS, base = IQ2_XXS, [
        (Output, All, Q5_K),
        (TokenEmbd, All, Q2_K),
        (AttnQkv, All, Q2_K),
        (FfnDown, FirstPart(8), Q2_K),
    ]),
}

/// Replacements for types whose blocks do not divide a row. Types without an entry are replaced by F16, which always
/// fits.
const FALLBACKS: &[(TensorType, TensorType)] = &[
    (TensorType::Q2_K, TensorType::Q4_0),
    (TensorType::Q3_K, TensorType::Q4_0),
    (TensorType::Q4_K, TensorType::Q5_0),
    (TensorType::Q5_K, TensorType::Q5_1),
    (TensorType::Q6_K, TensorType::Q8_0),
    (TensorType::IQ2_XXS, TensorType::IQ4_NL),
    (TensorType::IQ2_XS, TensorType::IQ4_NL),
    (TensorType::IQ2_S, TensorType::IQ4_NL),
    (TensorType::IQ3_XXS, TensorType::IQ4_NL),
    (TensorType::IQ3_S, TensorType::IQ4_NL),
    (TensorType::IQ4_XS, TensorType::IQ4_NL),
];

/// Whether llama.cpp refuses to encode a tensor in this type without importances.
pub(crate) const fn needs_importance(ty: TensorType) -> bool {
    matches!(ty, TensorType::IQ2_XXS | TensorType::IQ2_XS | TensorType::IQ2_S | TensorType::IQ3_XXS)
}

impl Level {
    /// Whether the files are useless without importances. llama.cpp refuses to make them.
    pub const fn needs_importance(self) -> bool {
        matches!(
            self,
            Self::IQ3_XS | Self::IQ3_XXS | Self::IQ2_M | Self::IQ2_S | Self::IQ2_XS | Self::IQ2_XXS | Self::Q2_K_S
        )
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Level {
    type Err = Error;

    /// Parses a name in upper or lower case, or a form that llama-quantize accepts: a number, or `Q4_K` for `Q4_K_M`.
    fn from_str(s: &str) -> Result<Self, Error> {
        let by_number = s.parse().ok().and_then(FileType::from_id).map(FileType::name);
        let by_alias = ["Q3_K", "Q4_K", "Q5_K"].into_iter().zip(["Q3_K_M", "Q4_K_M", "Q5_K_M"]);
        let by_alias = by_alias.into_iter().find(|(alias, _)| alias.eq_ignore_ascii_case(s)).map(|(_, name)| name);
        let name = by_number.or(by_alias).unwrap_or(s);
        let found = Self::ALL.iter().find(|level| level.name().eq_ignore_ascii_case(name));
        found.copied().ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|level| level.name()).collect();
            let hint = nearest_name(s, &names).map_or(String::new(), |name| format!(" (did you mean {name}?)"));
            Error::Request(format!("unknown type '{s}'{hint}, wanted one of {}", names.join(", ")))
        })
    }
}

/// Changes of the mixes by the user. In order of precedence, weakest first: the level's row, `pure`, `output` and
/// `token_embd`, then `rules`, of which the last match wins.
#[derive(Clone, Debug, Default)]
pub struct Recipe {
    /// Ignore the level's exceptions: every matrix in its base type.
    pub pure: bool,
    /// Type of the output head.
    pub output: Option<TensorType>,
    /// Type of the token embedding.
    pub token_embd: Option<TensorType>,
    /// Rules by name.
    pub rules: Vec<TypeRule>,
}

impl fmt::Display for Recipe {
    /// The options as on a command line; nothing for the default.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pure = self.pure.then(|| "--pure".to_owned());
        let output = self.output.map(|ty| format!("--output-tensor-type {ty}"));
        let token_embd = self.token_embd.map(|ty| format!("--token-embedding-type {ty}"));
        let rules = self.rules.iter().map(|rule| format!("--tensor-type {rule}"));
        let options: Vec<String> = pure.into_iter().chain(output).chain(token_embd).chain(rules).collect();
        f.write_str(&options.join(" "))
    }
}

/// The type of one tensor at one level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The type.
    pub ty: TensorType,
    /// The intended type, if its blocks do not divide the rows.
    pub wanted: Option<TensorType>,
}

impl Recipe {
    /// Whether nothing is changed.
    pub fn is_default(&self) -> bool {
        !self.pure && self.output.is_none() && self.token_embd.is_none() && self.rules.is_empty()
    }

    /// The types of `specs`, in their order, at `level`.
    ///
    /// Norms and biases are always F32: they are small, and llama.cpp's kernels accept no other type.
    ///
    /// `weighted` says whether there are importances, because some mixes depend on it.
    ///
    /// # Errors
    /// If a rule matches no weight matrix. It is then probably misspelt.
    pub fn types(&self, level: Level, specs: &[TensorSpec], weighted: bool) -> Result<Vec<Choice>, Error> {
        let is_matrix = |spec: &&TensorSpec| spec.id.is_matrix();
        for rule in &self.rules {
            if !specs.iter().filter(is_matrix).any(|spec| rule.matches(&spec.gguf)) {
                return Err(Error::Request(format!("rule '{rule}' matches no weight matrix of this model")));
            }
        }
        let layers = specs.iter().filter_map(|spec| spec.id.layer).max().map_or(0, |last| last + 1);
        let mix = Mix { layers, weighted };
        Ok(specs.iter().map(|spec| self.choose(level, spec, &mix)).collect())
    }

    fn choose(&self, level: Level, spec: &TensorSpec, mix: &Mix) -> Choice {
        if !spec.id.is_matrix() {
            return Choice { ty: TensorType::F32, wanted: None };
        }
        let row_elems = spec.shape.last().copied().unwrap_or(1);
        let wanted = self.wanted(level, spec, mix);
        let mut ty = wanted;
        while ty.row_bytes(row_elems).is_none() {
            ty = match FALLBACKS.iter().find(|(from, _)| *from == ty) {
                // Whatever it should be, the reference stores the output matrix in Q8_0 then.
                Some(_) if spec.id.kind == Kind::Output => TensorType::Q8_0,
                Some(&(_, to)) => to,
                None => TensorType::F16,
            };
        }
        Choice { ty, wanted: (ty != wanted).then_some(wanted) }
    }

    fn wanted(&self, level: Level, spec: &TensorSpec, mix: &Mix) -> TensorType {
        if let Some(rule) = self.rules.iter().rev().find(|rule| rule.matches(&spec.gguf)) {
            return rule.ty;
        }
        let named = match spec.id.kind {
            Kind::Output => self.output,
            Kind::TokenEmbd => self.token_embd,
            _ => None,
        };
        let applies = |(kind, at, _): &&Exception| *kind == spec.id.kind && at.holds(mix, spec.id.layer);
        let exception = || level.exceptions().iter().filter(|_| !self.pure).find(applies);
        named.or_else(|| exception().map(|&(.., ty)| ty)).unwrap_or(level.base())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pythia_schema::{Hparams, TensorId};

    /// Some of the tensors of a model with one block.
    fn model(n_embd: usize) -> Vec<TensorSpec> {
        let h = Hparams {
            n_layer: 1,
            n_embd,
            n_head: 1,
            n_ff: 4 * n_embd,
            n_vocab: 64,
            n_ctx: 32,
            n_rot: 4,
            rope_base: 10000.0,
            rope_factor: 1.0,
            norm_eps: 1e-5,
            parallel_residual: true,
            gelu_tanh: false,
        };
        let up = TensorId::weight(Kind::FfnUp, Some(0));
        let ids = [
            TensorId::weight(Kind::TokenEmbd, None),
            TensorId::weight(Kind::AttnNorm, Some(0)),
            up,
            up.bias(),
            TensorId::weight(Kind::Output, None),
        ];
        ids.map(|id| TensorSpec::new(id, &h)).to_vec()
    }

    fn names(recipe: &Recipe, level: Level, n_embd: usize) -> Vec<&'static str> {
        recipe.types(level, &model(n_embd), false).unwrap().iter().map(|c| c.ty.name()).collect()
    }

    #[test]
    fn options_win_over_the_mix_and_later_rules_over_earlier_ones() {
        let plain = Recipe::default();
        assert_eq!(names(&plain, Level::Q4_0, 256), ["Q4_0", "F32", "Q4_0", "F32", "Q6_K"]);
        let pure = Recipe { pure: true, ..Recipe::default() };
        assert_eq!(names(&pure, Level::Q4_0, 256), ["Q4_0", "F32", "Q4_0", "F32", "Q4_0"]);
        let named = Recipe { output: Some(TensorType::F16), token_embd: Some(TensorType::Q8_0), ..pure };
        assert_eq!(names(&named, Level::Q4_0, 256), ["Q8_0", "F32", "Q4_0", "F32", "F16"]);
        let rules = ["ffn_.*=q5_0", "blk=Q5_1", "^output=BF16"].map(|rule| rule.parse().unwrap());
        let ruled = Recipe { rules: rules.to_vec(), ..named };
        assert_eq!(names(&ruled, Level::Q4_0, 256), ["Q8_0", "F32", "Q5_1", "F32", "BF16"]);
        let typed = "--pure --output-tensor-type F16 --token-embedding-type Q8_0 \
                     --tensor-type ffn_.*=Q5_0 --tensor-type blk=Q5_1 --tensor-type ^output=BF16";
        assert_eq!(ruled.to_string(), typed);
    }

    #[test]
    fn rows_that_blocks_do_not_divide_fall_back_and_say_so() {
        let choices = Recipe::default().types(Level::Q4_0, &model(128), false).unwrap();
        assert_eq!(choices[4], Choice { ty: TensorType::Q8_0, wanted: Some(TensorType::Q6_K) });
        assert_eq!(choices[0], Choice { ty: TensorType::Q4_0, wanted: None });
        assert_eq!(names(&Recipe::default(), Level::Q6_K, 48), ["F16", "F32", "F16", "F32", "F16"]);
    }

    #[test]
    fn rules_that_match_no_matrix_are_refused() {
        for rule in ["blk\\.9=Q8_0", "ffn_up\\.bias=F16", "attn_norm=Q8_0"] {
            let recipe = Recipe { rules: vec![rule.parse().unwrap()], ..Recipe::default() };
            let error = recipe.types(Level::Q8_0, &model(256), false).unwrap_err().to_string();
            assert_eq!(error, format!("rule '{rule}' matches no weight matrix of this model"));
        }
    }

    #[test]
    fn levels_have_the_names_and_numbers_of_llama_quantize() {
        for (text, level) in [
            ("q4_k", Level::Q4_K_M),
            ("Q3_K", Level::Q3_K_M),
            ("15", Level::Q4_K_M),
            ("2", Level::Q4_0),
            ("0", Level::F32),
        ] {
            assert_eq!(text.parse::<Level>().unwrap(), level, "{text}");
        }
        // A number of llama.cpp's that we cannot write, and no number at all.
        for text in ["24", "4", "-1"] {
            assert!(text.parse::<Level>().is_err(), "{text}");
        }
    }

    #[test]
    fn malformed_levels_are_refused_in_one_line() {
        let error = "Q4_K_X".parse::<Level>().unwrap_err().to_string();
        assert!(error.contains("(did you mean Q4_K_"), "{error}");
        for &level in Level::ALL {
            assert_eq!(level.name().to_lowercase().parse::<Level>().unwrap(), level);
        }
    }
}
