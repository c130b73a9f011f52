use pythia_quantizer::*;
use pythia_calibrate::{calibration::Calibration, network::Network};
use pythia_convert::{CheckpointSource, Source};
use pythia_schema::TensorId; use pythia_tensor::TensorType;
use std::sync::Arc; use std::path::Path;
struct T(TensorType, bool);
impl Target for T {
  fn ty(&self, id: TensorId)->Option<TensorType>{ if id.kind==pythia_schema::Kind::TokenEmbd && !self.1 {None} else if id.kind==pythia_schema::Kind::Output && !matches!(self.0, TensorType::Q8_0) {Some(TensorType::Q6_K)} else {Some(self.0)} }
  fn matrix(&self,_:TensorId,_:&[u8])->Result<(),Error>{Ok(())}
  fn vector(&self,_:TensorId,_:&[f32])->Result<(),Error>{Ok(())}
}
fn main(){
  let a: Vec<String> = std::env::args().collect();
  let src = CheckpointSource::open(Path::new(&a[1])).unwrap();
  let ty: TensorType = a[2].parse().unwrap();
  let windows: usize = a[3].parse().unwrap();
  let text = std::fs::read_to_string("/work/shared/models/pythia-docs-6m/calibration.txt").unwrap();
  let md = src.metadata(&Default::default()).unwrap();
  let tk = pythia_runtime::Tokenizer::from_gguf(&md).unwrap();
  let mut tokens = tk.encode(&text).unwrap();
  let n_ctx = 512.min(src.hparams().n_ctx);
  tokens.truncate(windows*n_ctx);
  let cal = Calibration{n_ctx, tokens};
  let cpu = Arc::new(pythia_kernels::Cpu::new(0,None).unwrap());
  let net = Network::open(&src, cpu, None).unwrap();
  let mut s = Settings::default();
  for kv in &a[4..] { let (k,v)=kv.split_once('=').unwrap(); let f: f64=v.parse().unwrap();
    match k {"d"=>s.input_damping=f,"o"=>s.output_damping=f,"e"=>s.embedding_damping=f,"a"=>s.pull=f,"r"=>s.residual=f,"b"=>s.biases=f>0.0,"p"=>s.passes=f as usize,"emb"=>{}, _=>panic!()} }
  let emb = a.iter().any(|x| x=="emb=1");
  let t0=std::time::Instant::now();
  let rep = Walk{network:&net, calibration:&cal, settings:&s, target:&T(ty,emb), cancel:&pythia_task::Cancel::new(), progress:&()}.run().unwrap();
  if std::env::var("V").is_ok() { for m in &rep.matrices { println!("{:28} {:5} pred {:.3e} meas {:.3e} plain {:.3e} {:.2} {} {:.2}s", m.tensor,m.ty,m.predicted,m.measured,m.plain,m.measured/m.plain,m.accepted,m.seconds); } }
  println!("{ty} {s} KLD {:.4e} meas {:.3e} plain {:.3e} {:.1}s", rep.divergence.unwrap(), rep.measured(), rep.plain(), t0.elapsed().as_secs_f64());
}
