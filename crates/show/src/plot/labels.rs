//! Places labels near crowded points, so that they overlap neither each other nor the drawing.
//!
//! Every label has the same few dozen candidate places in rings around its point. Each takes the cheapest one given
//! where the others stand, in turns, until none moves. That is a local optimum, so several orders of taking turns are
//! tried. For the twenty or so labels of a figure the best of them is good, and it is the same on every machine.

use super::{Anchor, Svg};

/// An axis-parallel box, y downwards.
#[derive(Clone, Copy, Debug)]
pub struct Rect {
    /// Left edge.
    pub x: f64,
    /// Upper edge.
    pub y: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

/// A straight line between two points.
pub type Segment = ((f64, f64), (f64, f64));

/// What labels must stay clear of.
pub struct Scene<'a> {
    /// All labels stay inside.
    pub frame: Rect,
    /// Boxes that are taken.
    pub taken: &'a [Rect],
    /// Thin lines: better not crossed, but no disaster.
    pub lines: &'a [Segment],
}

/// A point and the width of its label.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The point.
    pub at: (f64, f64),
    /// Width of the text in pixels.
    pub width: f64,
}

/// Where a label went.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The box of the text.
    pub rect: Rect,
    /// The end of a line from the point, for a label too far away to be understood without.
    pub leader: Option<(f64, f64)>,
}

/// Height of a label's box.
pub const HEIGHT: f64 = 14.0;
/// From the upper edge of its box to the line that a text stands on.
const BASELINE: f64 = 11.0;
/// Half the side of the box that a dot takes.
const DOT: f64 = 6.0;
/// Distances from the point to the label.
const RINGS: [f64; 6] = [7.0, 13.0, 22.0, 34.0, 48.0, 66.0];
/// From this ring on a leader is drawn.
const FIRST_LED: usize = 1;
/// Directions, best first: right of the point reads most easily.
const DIRECTIONS: [(f64, f64); 12] = [
    (1.0, 0.0),
    (1.0, -0.9),
    (1.0, 0.9),
    (-1.0, 0.0),
    (0.0, -1.0),
    (0.0, 1.0),
    (-1.0, -0.9),
    (-1.0, 0.9),
    (0.4, -1.0),
    (0.4, 1.0),
    (-0.4, -1.0),
    (-0.4, 1.0),
];
/// Turns after which a scene that still changes is taken as it is.
const MAX_TURNS: usize = 30;
/// Orders tried in each direction; the cheapest outcome is kept.
const MAX_STARTS: usize = 4;

impl Rect {
    /// The area two boxes share.
    fn overlap(&self, other: &Rect) -> f64 {
        let width = (self.x + self.width).min(other.x + other.width) - self.x.max(other.x);
        let height = (self.y + self.height).min(other.y + other.height) - self.y.max(other.y);
        width.max(0.0) * height.max(0.0)
    }

    fn contains(&self, inner: &Rect) -> bool {
        self.x <= inner.x
            && self.y <= inner.y
            && inner.x + inner.width <= self.x + self.width
            && inner.y + inner.height <= self.y + self.height
    }

    /// The point of the box nearest to `to`.
    fn nearest(&self, to: (f64, f64)) -> (f64, f64) {
        (to.0.clamp(self.x, self.x + self.width), to.1.clamp(self.y, self.y + self.height))
    }

    /// Whether a segment enters the box, by clipping it against both pairs of edges.
    fn is_crossed_by(&self, from: (f64, f64), to: (f64, f64)) -> bool {
        let (mut enter, mut leave) = (0.0f64, 1.0f64);
        for (start, delta, low, high) in [
            (from.0, to.0 - from.0, self.x, self.x + self.width),
            (from.1, to.1 - from.1, self.y, self.y + self.height),
        ] {
            if delta == 0.0 {
                if start < low || start > high {
                    return false;
                }
                continue;
            }
            let (a, b) = ((low - start) / delta, (high - start) / delta);
            enter = enter.max(a.min(b));
            leave = leave.min(a.max(b));
        }
        enter <= leave
    }
}

impl Place {
    /// The line from the point to the label, if it needs one.
    pub fn draw_leader(&self, svg: &mut Svg, point: (f64, f64)) {
        if let Some(end) = self.leader {
            svg.line("leader", point, end);
        }
    }

    /// The label.
    pub fn draw(&self, svg: &mut Svg, class: &str, text: &str) {
        let middle = self.rect.x + self.rect.width / 2.0;
        svg.text(class, (middle, self.rect.y + BASELINE), Anchor::Middle, text);
    }
}

/// A place for every target, in their order.
pub fn place(targets: &[Target], scene: &Scene<'_>) -> Vec<Place> {
    let candidates: Vec<Vec<(Place, f64)>> = targets.iter().map(|target| candidates(target, targets, scene)).collect();
    let search = Search { targets, candidates: &candidates };
    let forward: Vec<usize> = (0..targets.len()).collect();
    let backward: Vec<usize> = forward.iter().rev().copied().collect();
    let mut best: (f64, Vec<usize>) = (f64::INFINITY, vec![0; targets.len()]);
    for start in 0..targets.len().min(MAX_STARTS) {
        for order in [&forward, &backward] {
            let mut order = order.clone();
            order.rotate_left(start);
            let chosen = search.settle(&order);
            let total = search.total(&chosen);
            if total < best.0 {
                best = (total, chosen);
            }
        }
    }
    candidates.iter().zip(best.1).map(|(places, choice)| places[choice].0).collect()
}

/// The choice among the candidates of every label, by index.
struct Search<'a> {
    targets: &'a [Target],
    candidates: &'a [Vec<(Place, f64)>],
}

impl Search<'_> {
    /// Lets the labels choose in this order, in turns, until none moves. At first only those that chose are there.
    fn settle(&self, order: &[usize]) -> Vec<usize> {
        let mut chosen: Vec<Option<usize>> = vec![None; self.targets.len()];
        for _ in 0..MAX_TURNS {
            let mut moved = false;
            for &i in order {
                let costs = (0..self.candidates[i].len()).map(|c| self.cost(i, c, |j| chosen[j]));
                let best = costs.enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).map(|(c, _)| c);
                moved |= best != chosen[i];
                chosen[i] = best;
            }
            if !moved {
                break;
            }
        }
        chosen.into_iter().map(|choice| choice.unwrap_or(0)).collect()
    }

    /// What candidate `c` costs label `i`, given where others are.
    fn cost(&self, i: usize, c: usize, others: impl Fn(usize) -> Option<usize>) -> f64 {
        let (place, own) = &self.candidates[i][c];
        let placed = (0..self.targets.len()).filter(|&j| j != i).filter_map(|j| Some((j, others(j)?)));
        own + placed.map(|(j, d)| conflict(i, place, j, &self.candidates[j][d].0, self.targets)).sum::<f64>()
    }

    /// What all labels cost; conflicts count twice.
    fn total(&self, chosen: &[usize]) -> f64 {
        (0..chosen.len()).map(|i| self.cost(i, chosen[i], |j| Some(chosen[j]))).sum()
    }
}

/// Every place of a label with what it costs apart from the other labels.
fn candidates(target: &Target, all: &[Target], scene: &Scene<'_>) -> Vec<(Place, f64)> {
    let mut places = Vec::with_capacity(RINGS.len() * DIRECTIONS.len());
    for (ring, &distance) in RINGS.iter().enumerate() {
        for (rank, &(dx, dy)) in DIRECTIONS.iter().enumerate() {
            let rect = Rect {
                x: target.at.0 + dx * (distance + target.width / 2.0) - target.width / 2.0,
                y: target.at.1 + dy * (distance + HEIGHT / 2.0) - HEIGHT / 2.0,
                width: target.width,
                height: HEIGHT,
            };
            let leader = (ring >= FIRST_LED).then(|| rect.nearest(target.at));
            let place = Place { rect, leader };
            let habit = ring as f64 * 12.0 + rank as f64 * 0.7;
            places.push((place, habit + obstruction(&place, target, all, scene)));
        }
    }
    places
}

/// The cost of covering what is drawn.
fn obstruction(place: &Place, target: &Target, all: &[Target], scene: &Scene<'_>) -> f64 {
    let mut cost = if scene.frame.contains(&place.rect) { 0.0 } else { 5000.0 };
    cost += scene.taken.iter().map(|taken| taken.overlap(&place.rect) * 10.0).sum::<f64>();
    // A label that stands nearer to another point would be read as that point's.
    let gap = |at: (f64, f64)| {
        let nearest = place.rect.nearest(at);
        (nearest.0 - at.0).hypot(nearest.1 - at.1)
    };
    for other in all {
        cost += dot(other).overlap(&place.rect) * 10.0;
        if let Some(end) = place.leader
            && other.at != target.at
            && dot(other).is_crossed_by(target.at, end)
        {
            cost += 60.0;
        }
        if other.at != target.at && gap(other.at) < gap(target.at) + 2.0 {
            cost += 100.0;
        }
    }
    let crossed = scene.lines.iter().filter(|(from, to)| place.rect.is_crossed_by(*from, *to)).count();
    cost + crossed as f64 * 9.0
}

/// The cost of two labels in each other's way.
fn conflict(i: usize, a: &Place, j: usize, b: &Place, targets: &[Target]) -> f64 {
    let crosses = |place: &Place, from: usize, rect: &Rect| {
        place.leader.is_some_and(|end| rect.is_crossed_by(targets[from].at, end))
    };
    let leaders = f64::from(u8::from(crosses(a, i, &b.rect))) + f64::from(u8::from(crosses(b, j, &a.rect)));
    a.rect.overlap(&b.rect) * 10.0 + leaders * 80.0
}

fn dot(target: &Target) -> Rect {
    Rect { x: target.at.0 - DOT, y: target.at.1 - DOT, width: 2.0 * DOT, height: 2.0 * DOT }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FRAME: Rect = Rect { x: 0.0, y: 0.0, width: 900.0, height: 320.0 };

    fn overlaps(places: &[Place]) -> usize {
        let pairs = places.iter().enumerate().flat_map(|(i, a)| places[..i].iter().map(move |b| (a, b)));
        pairs.filter(|(a, b)| a.rect.overlap(&b.rect) > 1.0).count()
    }

    #[test]
    fn a_lone_label_stands_beside_its_point() {
        let scene = Scene { frame: FRAME, taken: &[], lines: &[] };
        let places = place(&[Target { at: (100.0, 100.0), width: 40.0 }], &scene);
        assert_eq!(places[0].rect.x, 107.0);
        assert!(places[0].leader.is_none());
    }

    #[test]
    fn a_label_avoids_what_is_taken() {
        let taken = [Rect { x: 105.0, y: 0.0, width: 300.0, height: 320.0 }];
        let scene = Scene { frame: FRAME, taken: &taken, lines: &[] };
        let places = place(&[Target { at: (100.0, 100.0), width: 40.0 }], &scene);
        assert_eq!(places[0].rect.overlap(&taken[0]), 0.0);
    }

    #[test]
    fn points_on_one_spot_still_get_labels_apart() {
        let targets = [Target { at: (450.0, 160.0), width: 45.0 }; 8];
        let places = place(&targets, &Scene { frame: FRAME, taken: &[], lines: &[] });
        assert_eq!(overlaps(&places), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn labels_do_not_overlap(points in prop::collection::vec((20.0f64..880.0, 20.0f64..300.0), 1..20)) {
            let targets: Vec<Target> = points.iter().map(|&at| Target { at, width: 46.0 }).collect();
            let places = place(&targets, &Scene { frame: FRAME, taken: &[], lines: &[] });
            prop_assert_eq!(overlaps(&places), 0);
            prop_assert!(places.iter().all(|p| FRAME.contains(&p.rect)));
        }

        #[test]
        fn clipping_agrees_with_sampling(a in (0.0f64..30.0, 0.0f64..30.0), b in (0.0f64..30.0, 0.0f64..30.0)) {
            let rect = Rect { x: 10.0, y: 12.0, width: 8.0, height: 6.0 };
            let inside = |t: f64| {
                let (x, y) = (a.0 + t * (b.0 - a.0), a.1 + t * (b.1 - a.1));
                (10.0..=18.0).contains(&x) && (12.0..=18.0).contains(&y)
            };
            if (0..=1000).any(|i| inside(f64::from(i) / 1000.0)) {
                prop_assert!(rect.is_crossed_by(a, b));
            }
        }
    }
}
