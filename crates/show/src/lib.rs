//! Results for people: tables, Markdown, HTML, CSV, numbers and times.
//!
//! - [`Table`]: laid out for a terminal of some [`Width`], or as Markdown. Every cell is one line.
//! - [`Csv`]: RFC 4180, safe to open in a spreadsheet.
//! - [`markdown()`] and [`html()`]: foreign text, escaped for such a file.
//! - [`plot`]: plots as SVG in a page of HTML.
//! - [`number`] and [`iso_time`]: numbers, sizes and times as people read them.

#![forbid(unsafe_code)]

mod csv;
mod markup;
pub mod number;
pub mod plot;
mod table;
mod time;

pub use csv::{Cell, Csv, Quotes};
pub use markup::{html, markdown};
pub use table::{Align, Column, Fitted, Table, Width, facts, shorten, text_width, wrap};
pub use time::iso_time;
