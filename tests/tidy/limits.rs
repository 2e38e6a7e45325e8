//! The law of docs/limits.md: each constant that a row names has the value that the row says.
//!
//! A row's second column names constants in backticks, each followed by its value: `` `FILL` 256
//! KiB ``. `file::NAME` chooses between constants of one name; `NAME.field` is a field of a
//! constant, or of a default.

use crate::sources::{RustFile, is_test, read, rust_files};

const PAGE: &str = "docs/limits.md";

/// Fewer constants than these on the page would mean that its form is not understood any more.
const NAMED_AT_LEAST: usize = 80;

/// Units that a row may use, and how many of the smallest one of their kind they are.
const SIZES: &[(&str, i128)] = &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20)];
const TIMES: &[(&str, i128)] = &[
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("min", 60 * SECOND),
    ("h", 3_600 * SECOND),
    ("d", 24 * 3_600 * SECOND),
];

/// Nanoseconds.
const SECOND: i128 = 1_000_000_000;

#[test]
fn limits_are_what_their_page_says() {
    let files = rust_files();
    let mut named = 0;
    let mut wrong = Vec::new();
    for (number, line) in read(PAGE).lines().enumerate() {
        let Some(column) = line.split('|').nth(2) else {
            continue;
        };
        let mut parts = column.split('`').skip(1);
        while let (Some(name), Some(said)) = (parts.next(), parts.next()) {
            let is_constant = |c: char| c.is_ascii_uppercase() || c == '.';
            if !name
                .rsplit("::")
                .next()
                .is_some_and(|it| it.contains(is_constant))
            {
                continue;
            }
            named += 1;
            if let Err(error) = compare(&files, name, said.trim()) {
                wrong.push(format!("{PAGE}:{}: `{name}`: {error}", number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        named >= NAMED_AT_LEAST,
        "{PAGE} names only {named} constants"
    );
}

/// Holds what a row says of `name` against the source.
fn compare(files: &[RustFile], name: &str, said: &str) -> Result<(), String> {
    let value = lookup(files, name)?;
    let mut words = said.split_whitespace();
    let word = words.next().unwrap_or_default();
    let clean = |word: &str| word.trim_end_matches([',', ';', '.']).to_owned();
    let digits = clean(word).replace(',', "");
    let Ok(digits) = digits.parse::<i128>() else {
        return Err(format!("no number follows it, but {said:?}"));
    };
    let ends = word.ends_with([',', ';']);
    let unit = words
        .next()
        .filter(|_| !ends)
        .map(clean)
        .unwrap_or_default();
    let size = SIZES.iter().find(|(name, _)| *name == unit);
    let time = TIMES.iter().find(|(name, _)| *name == unit);
    let said = match (size, time) {
        (Some((_, size)), _) => Value::Number(digits * size),
        (_, Some((_, time))) => Value::Nanoseconds(digits * time),
        (None, None) => Value::Number(digits),
    };
    let value = match (&said, value) {
        (Value::Nanoseconds(_), Value::Number(it)) if name.ends_with("_MS") => {
            Value::Nanoseconds(it * 1_000_000)
        }
        (Value::Nanoseconds(_), Value::Number(it)) => Value::Nanoseconds(it * SECOND),
        (_, value) => value,
    };
    match value == said {
        true => Ok(()),
        false => Err(format!("the source says {value:?}, the page {said:?}")),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Number(i128),
    Nanoseconds(i128),
}

/// The value of the constant that a row calls `name`.
fn lookup(files: &[RustFile], name: &str) -> Result<Value, String> {
    let (within, name) = name.rsplit_once("::").unwrap_or(("", name));
    let mut found = Vec::new();
    for file in files.iter().filter(|file| !is_test(&file.path)) {
        let stem = file.path.trim_end_matches(".rs");
        let is_within = within.is_empty()
            || stem == within
            || stem
                .strip_suffix(within)
                .is_some_and(|rest| rest.ends_with('/'));
        let bare = name.split('.').next().unwrap_or_default();
        if is_within
            && file.text.contains(bare)
            && let Some(expression) = definition(file, name)
        {
            found.push((file, expression));
        }
    }
    match found.as_slice() {
        [] => Err("no such constant".to_owned()),
        [(file, expression)] => evaluate(files, file, expression),
        several => {
            let paths: Vec<&str> = several.iter().map(|(file, _)| file.path.as_str()).collect();
            Err(format!("several files have one: {}", paths.join(", ")))
        }
    }
}

/// The expression that `file` gives to `NAME` or to `NAME.field`.
fn definition(file: &RustFile, name: &str) -> Option<String> {
    let code: Vec<&str> = file.code_lines().map(|(_, line)| line).collect();
    let code = code.join("\n");
    if let Some((whole, field)) = name.split_once('.') {
        let constant = format!("const {whole}: ");
        let default = format!("impl Default for {whole} ");
        let start = code.find(&constant).or_else(|| code.find(&default))?;
        let rest = &code[start..];
        let rest = &rest[..rest.find("\n}")?];
        let (_, value) = rest.split_once(&format!(" {field}: "))?;
        let value = value.lines().next()?.trim();
        return Some(value.trim_end_matches(',').to_owned());
    }
    let start = code.find(&format!("const {name}: "))?;
    let (_, value) = code[start..].split_once('=')?;
    Some(value.split(';').next()?.trim().to_owned())
}

/// Evaluates the arithmetic that constants are written in.
fn evaluate(files: &[RustFile], file: &RustFile, expression: &str) -> Result<Value, String> {
    let tokens = tokens(expression);
    let mut at = Reader {
        files,
        file,
        tokens,
        next: 0,
    };
    let value = at
        .shift()
        .ok_or(format!("{expression:?} is not understood"))?;
    match at.next == at.tokens.len() {
        true => Ok(value),
        false => Err(format!("{expression:?} is understood in part only")),
    }
}

/// Splits an expression into names with their paths, numbers, and signs.
fn tokens(expression: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut in_word = false;
    for c in expression.chars() {
        let is_word = c.is_alphanumeric() || c == '_' || c == ':';
        match is_word && in_word {
            true => tokens.last_mut().expect("a word has begun").push(c),
            false if !c.is_whitespace() => tokens.push(c.to_string()),
            false => {}
        }
        in_word = is_word;
    }
    tokens
}

struct Reader<'a> {
    files: &'a [RustFile],
    file: &'a RustFile,
    tokens: Vec<String>,
    next: usize,
}

impl Reader<'_> {
    fn takes(&mut self, token: &str) -> bool {
        let is_next = self.tokens.get(self.next).is_some_and(|next| next == token);
        self.next += usize::from(is_next);
        is_next
    }

    fn shift(&mut self) -> Option<Value> {
        let mut value = self.sum()?;
        while self.takes("<") {
            (self.takes("<")).then_some(())?;
            value = calculate(value, self.sum()?, |a, b| {
                a.checked_shl(u32::try_from(b).ok()?)
            })?;
        }
        Some(value)
    }

    fn sum(&mut self) -> Option<Value> {
        let mut value = self.product()?;
        loop {
            value = match () {
                () if self.takes("+") => calculate(value, self.product()?, i128::checked_add)?,
                () if self.takes("-") => calculate(value, self.product()?, i128::checked_sub)?,
                () => return Some(value),
            };
        }
    }

    fn product(&mut self) -> Option<Value> {
        let mut value = self.single()?;
        loop {
            value = match () {
                () if self.takes("*") => calculate(value, self.single()?, i128::checked_mul)?,
                () if self.takes("/") => calculate(value, self.single()?, i128::checked_div)?,
                () if self.takes("as") => {
                    self.next += 1;
                    value
                }
                () => return Some(value),
            };
        }
    }

    fn single(&mut self) -> Option<Value> {
        if self.takes("(") {
            let value = self.shift()?;
            return self.takes(")").then_some(value);
        }
        let word = self.tokens.get(self.next)?.clone();
        self.next += 1;
        if let Ok(number) = word.replace('_', "").parse() {
            return Some(Value::Number(number));
        }
        if !self.takes("(") {
            return self.constant(&word);
        }
        let inner = self.shift()?;
        self.takes(")").then_some(())?;
        let Value::Number(number) = inner else {
            return None;
        };
        let unit = match word.rsplit("::").next()? {
            "from_micros" => 1_000,
            "from_millis" => 1_000_000,
            "from_secs" => SECOND,
            "from_mins" => 60 * SECOND,
            "from_hours" => 3_600 * SECOND,
            "new" => return Some(inner),
            _ => return None,
        };
        Some(Value::Nanoseconds(number * unit))
    }

    /// Another constant: of the same file, of the file that its path names, or the only one of its
    /// name.
    fn constant(&self, path: &str) -> Option<Value> {
        let (module, name) = path.rsplit_once("::").unwrap_or(("", path));
        if module.is_empty()
            && let Some(expression) = definition(self.file, name)
        {
            return evaluate(self.files, self.file, &expression).ok();
        }
        let within = module.rsplit("::").next().unwrap_or_default();
        let qualified = format!("{within}::{name}");
        let found = lookup(self.files, &qualified).or_else(|_| lookup(self.files, name));
        found.ok()
    }
}

/// A time keeps its kind when it is multiplied or divided by a number.
fn calculate(a: Value, b: Value, by: fn(i128, i128) -> Option<i128>) -> Option<Value> {
    use Value::{Nanoseconds, Number};
    Some(match (a, b) {
        (Number(a), Number(b)) => Number(by(a, b)?),
        (Nanoseconds(a), Number(b) | Nanoseconds(b)) | (Number(a), Nanoseconds(b)) => {
            Nanoseconds(by(a, b)?)
        }
    })
}
