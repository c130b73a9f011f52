use super::*;
use crate::compile::Source;
use crate::graph::Graph;
use crate::layout::shared_structs;
use crate::ops::quantize::{Quantized, quantize};
use crate::testing::{self, Random, download, upload};
use std::sync::atomic::{AtomicBool, Ordering};

/// Without a driver, or past the last GPU: one line that says so, and no panic.
#[test]
fn what_is_not_there_is_an_error() {
    let error = Device::open(1000).unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
    let line = error.to_string();
    assert!(["no NVIDIA driver", "no GPU", "stub"].iter().any(|reason| line.contains(reason)), "{line}");
    assert_eq!(line.lines().count(), 1);
}

#[test]
fn it_is_described() {
    let Some(device) = testing::device() else { return };
    let description = device.describe().unwrap();
    assert_eq!(format!("cuda:0 {}", description.name), device.name());
    assert!(description.capability >= OLDEST && description.multiprocessors == device.multiprocessors());
    assert!(description.free <= description.memory);
    assert!(description.to_string().contains(&description.name));
}

#[test]
fn memory_is_zeroed_and_padded() {
    let Some(device) = testing::device() else { return };
    for bytes in [0, 1, 1000, 1 << 20] {
        let memory = device.alloc(bytes).unwrap();
        assert_eq!(memory.ptr().0 % 256, 0);
        let mut read = vec![1; bytes + 64];
        device.download(memory.ptr(), &mut read);
        device.check().unwrap();
        assert!(read.iter().all(|&byte| byte == 0), "{bytes} bytes");
    }
}

#[test]
fn too_much_memory() {
    let Some(device) = testing::device() else { return };
    for wanted in [1 << 50, usize::MAX] {
        let Err(Error::OutOfMemory { wanted: told, free }) = device.alloc(wanted) else { panic!("{wanted} bytes") };
        assert!(told == wanted && free < wanted);
    }
    device.check().unwrap();
}

/// Copies longer than a piece, and shorter ones that follow each other closer than the device copies.
#[test]
fn copies_arrive() {
    let Some(device) = testing::device() else { return };
    let mut random = Random::new(1);
    let bytes: Vec<u8> = (0..20 << 20).map(|_| random.next() as u8).collect();
    let memory = upload(device, &bytes);
    assert!(download::<u8>(device, &memory, bytes.len()) == bytes);
    let words = device.alloc(4 * 1000).unwrap();
    let mut word = [0; 4];
    for i in 0..1000_u32 {
        word = (i * i).to_le_bytes();
        device.upload(words.ptr().add(4 * i as usize), &word);
    }
    assert_eq!(word, (999_u32 * 999).to_le_bytes());
    assert_eq!(download::<u32>(device, &words, 1000), (0..1000).map(|i| i * i).collect::<Vec<_>>());
}

const ROW: usize = 64;

/// Something that a kernel makes of what lies in memory.
struct Work {
    x: Memory,
    codes: Memory,
    scales: Memory,
    sums: Memory,
}

impl Work {
    fn new(device: &Device) -> Self {
        let alloc = |bytes| device.alloc(bytes).unwrap();
        Self { x: alloc(4 * ROW), codes: alloc(ROW), scales: alloc(4 * ROW / 32), sums: alloc(4 * ROW / 16) }
    }

    fn launch(&self, device: &Device) {
        // SAFETY: memory of these sizes.
        unsafe { quantize(device, self.x.ptr(), 1, ROW, self.out()) };
    }

    fn out(&self) -> Quantized {
        Quantized { codes: self.codes.ptr(), scales: self.scales.ptr(), sums: self.sums.ptr() }
    }

    fn set(&self, device: &Device, x: f32) {
        device.upload(self.x.ptr(), &[x.to_le_bytes(); ROW].concat());
    }

    /// The scale times 127 of what was last worked on.
    fn amax(&self, device: &Device) -> f32 {
        (download::<f32>(device, &self.scales, 1)[0] * 127.0).round()
    }
}

#[test]
fn graphs_replay() {
    let Some(device) = testing::device() else { return };
    let (one, other) = (Work::new(device), Work::new(device));
    one.set(device, 3.0);
    one.launch(device);
    assert_eq!(one.amax(device), 3.0);
    one.set(device, 4.0);
    let graph = Graph::record(device, || {
        one.launch(device);
        other.launch(device);
    });
    let mut graph = graph.unwrap().expect("the kernel is loaded");
    assert_eq!(one.amax(device), 3.0, "recording runs nothing");
    for x in [4.0, 5.0] {
        one.set(device, x);
        other.set(device, 10.0 * x);
        // SAFETY: the memory is still there.
        unsafe { graph.replay(device) };
        assert_eq!((one.amax(device), other.amax(device)), (x, 10.0 * x));
    }
}

/// Other threads go on while one records, and what they launch is not recorded.
#[test]
fn recording_is_of_one_thread() {
    let Some(device) = testing::device() else { return };
    let (mine, theirs) = (Work::new(device), Work::new(device));
    theirs.set(device, 1.0);
    theirs.launch(device);
    assert_eq!(theirs.amax(device), 1.0);
    let graph = Graph::record(device, || {
        mine.launch(device);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                theirs.set(device, 2.0);
                theirs.launch(device);
                assert_eq!(theirs.amax(device), 2.0);
            });
        });
    });
    let mut graph = graph.unwrap().expect("the kernel is loaded");
    theirs.set(device, 3.0);
    mine.set(device, 4.0);
    // SAFETY: the memory is still there.
    unsafe { graph.replay(device) };
    assert_eq!((mine.amax(device), theirs.amax(device)), (4.0, 2.0));
}

/// Devices of their own, since a failure stays.
mod failures {
    use super::*;

    fn own_device() -> Option<Device> {
        testing::device().map(|_| Device::open(0).unwrap())
    }

    #[test]
    fn a_kernel_that_is_not_loaded_spoils_a_recording() {
        let Some(device) = own_device() else { return };
        let work = Work::new(&device);
        assert!(Graph::record(&device, || work.launch(&device)).unwrap().is_none());
        work.launch(&device);
        assert!(Graph::record(&device, || work.launch(&device)).unwrap().is_some());
        device.check().unwrap();
    }

    #[test]
    fn memory_is_counted() {
        let Some(device) = own_device() else { return };
        assert_eq!(device.allocated(), 0);
        let (one, other) = (device.alloc(1000).unwrap(), device.alloc(500).unwrap());
        assert!((1500..1700).contains(&device.allocated()));
        drop(one);
        assert!((500..600).contains(&device.allocated()));
        assert!(device.alloc(1 << 50).is_err());
        drop(other);
        assert_eq!(device.allocated(), 0);
    }

    #[test]
    fn prepared_kernels_are_loaded() {
        let Some(device) = own_device() else { return };
        let work = Work::new(&device);
        let unit = crate::ops::quantize::QUANTIZE.unit();
        device.prepare(&[unit; 3]).unwrap();
        let compiled = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&compiled);
        device.on_compile(move |_| seen.store(true, Ordering::Relaxed));
        work.launch(&device);
        device.check().unwrap();
        assert!(!compiled.load(Ordering::Relaxed), "loaded before its launch");
        // Products need a format.
        assert!(device.prepare(&[Unit { source: Source::Gemv, format: None }]).is_err());
    }

    #[test]
    fn the_first_failure_stays() {
        let Some(device) = own_device() else { return };
        let work = Work::new(&device);
        // No kernel takes it: none is launched.
        shared_structs! { struct Nothing { nothing: u64, } }
        for name in ["absent", "absent too"] {
            let kernel = Kernel { source: Source::Quantize, format: None, name };
            // SAFETY: as above.
            unsafe { device.launch(kernel, [1, 1, 1], 32, Nothing { nothing: 0 }) };
        }
        work.set(&device, 3.0);
        work.launch(&device);
        let line = device.check().unwrap_err().to_string();
        assert!(line.contains("absent (quantize)"), "{line}");
        assert_eq!(device.check().unwrap_err().to_string(), line);
        let mut untouched = [7; 4];
        device.download(work.x.ptr(), &mut untouched);
        assert_eq!(untouched, [7; 4]);
    }

    #[test]
    fn grids_have_limits() {
        let Some(device) = own_device() else { return };
        let work = Work::new(&device);
        // SAFETY: an empty grid reads nothing.
        unsafe { quantize(&device, work.x.ptr(), 0, ROW, work.out()) };
        device.check().unwrap();
        // SAFETY: refused before it reads anything.
        unsafe { quantize(&device, work.x.ptr(), 1 << 40, ROW, work.out()) };
        let line = device.check().unwrap_err().to_string();
        assert!(line.contains("quantize") && line.contains("blocks"), "{line}");
    }

    #[test]
    fn copies_cannot_be_recorded() {
        let Some(device) = own_device() else { return };
        let work = Work::new(&device);
        let error = Graph::record(&device, || work.set(&device, 1.0)).err().expect("an error");
        assert!(error.to_string().contains("while a graph is recorded"), "{error}");
    }
}
