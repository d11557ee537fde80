//! A flame graph: a bar for each function, as wide as what was done in it, over the one that called it.

use std::rc::Rc;

use super::stacks::Stacks;
use crate::bench::number;

const WIDTH: f64 = 1400.0;
const MARGIN: f64 = 10.0;
const ROW: usize = 17;
const HEAD: usize = 40;
/// Bars that are narrower are left out.
const NARROWEST: f64 = 0.3;
/// How wide a letter is, about.
const LETTER: f64 = 6.2;
/// Bars of one depth are told apart by these.
const COLOURS: [&str; 5] = ["#f0a35e", "#e98b50", "#f4bb6a", "#e5784b", "#f2cf85"];

/// A bar: a function at its depth, from where to where.
struct Bar {
    name: Rc<str>,
    depth: usize,
    start: u64,
    end: u64,
}

/// Stacks are in order of names, so those with the same beginning are neighbours.
fn bars(stacks: &Stacks) -> Vec<Bar> {
    let (mut bars, mut open): (Vec<Bar>, Vec<Bar>) = (Vec::new(), Vec::new());
    let mut at = 0;
    for (stack, count) in stacks.iter() {
        let common = open.iter().zip(stack).take_while(|(bar, name)| bar.name == **name).count();
        bars.extend(open.drain(common..));
        for (depth, name) in stack.iter().enumerate().skip(common) {
            open.push(Bar { name: name.clone(), depth, start: at, end: at });
        }
        at += count;
        open.iter_mut().for_each(|bar| bar.end = at);
    }
    bars.extend(open);
    bars
}

/// The picture, as SVG. A browser shows the whole name, and what was done, of the bar under the pointer.
pub fn draw(title: &str, stacks: &Stacks, operations: f64) -> String {
    let total = stacks.total().max(1);
    let scale = (WIDTH - 2.0 * MARGIN) / total as f64;
    let bars = bars(stacks);
    let deepest = bars.iter().map(|bar| bar.depth).max().unwrap_or(0);
    let height = HEAD + (deepest + 1) * ROW + 10;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{MARGIN}\" y=\"24\" font-size=\"16\">{}</text>\n",
        escaped(title)
    );
    for bar in &bars {
        let own = bar.end - bar.start;
        let width = own as f64 * scale;
        if width < NARROWEST {
            continue;
        }
        let (x, y) = (MARGIN + bar.start as f64 * scale, height - 10 - (bar.depth + 1) * ROW);
        let colour = COLOURS[bar.name.bytes().map(usize::from).sum::<usize>() % COLOURS.len()];
        let each = number(own as f64 / operations);
        let (name, percent) = (escaped(&bar.name), own as f64 * 100.0 / total as f64);
        svg += &format!(
            "<g><title>{name}: {each} an operation, {percent:.1} %</title>\
             <rect x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" rx=\"1\" fill=\"{colour}\"/>",
            ROW - 1
        );
        let letters = ((width - 6.0) / LETTER) as usize;
        if letters > 3 {
            // The end of a path says more than its beginning.
            let count = bar.name.chars().count();
            let end: String = bar.name.chars().skip(count.saturating_sub(letters)).collect();
            svg += &format!("<text x=\"{:.1}\" y=\"{}\" font-size=\"11\">{}</text>", x + 3.0, y + 12, escaped(&end));
        }
        svg += "</g>\n";
    }
    svg + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_lie_over_their_callers_and_are_as_wide_as_all_over_them() {
        let stacks = Stacks::made_of(&[(&["a"], 1), (&["a", "b"], 2), (&["a", "b", "c"], 3), (&["d", "b"], 4)]);
        let mut all: Vec<_> =
            bars(&stacks).iter().map(|bar| (bar.depth, bar.start, bar.end, bar.name.to_string())).collect();
        all.sort();
        let bar = |depth, start, end, name: &str| (depth, start, end, name.to_owned());
        assert_eq!(
            all,
            [bar(0, 0, 6, "a"), bar(0, 6, 10, "d"), bar(1, 1, 6, "b"), bar(1, 6, 10, "b"), bar(2, 3, 6, "c")]
        );
    }

    #[test]
    fn the_picture_is_well_formed_and_names_everything() {
        let picture = draw("t & t", &Stacks::made_of(&[(&["<a as B>::c", "d"], 3)]), 1.0);
        for part in ["t &amp; t", "&lt;a as B&gt;::c: 3 an operation, 100.0 %", ">d</text>"] {
            assert!(picture.contains(part), "{part} in {picture}");
        }
        assert_eq!(picture.matches("<g>").count(), 2);
        assert!(picture.ends_with("</svg>\n"));
    }
}
