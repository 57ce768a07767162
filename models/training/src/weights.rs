//! Published weight files: safetensors, and PyTorch's zip of a pickle and storages.
//!
//! They are read one tensor at a time, since the heads of a large model are gigabytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::panic::catch_unwind;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use candle_core::pickle::PthTensors;
use candle_core::{DType, Device, Tensor};
use safetensors::tensor::Metadata;

/// Of the length of a safetensors header, and of where it starts.
const HEADER_START: usize = 8;
/// Longest header of a safetensors file, by its format.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// How a zip begins.
const ZIP: &[u8] = b"PK\x03\x04";
/// How a pickle begins: all that there was of a `.pt` before PyTorch 1.6.
const PICKLE: &[u8] = b"\x80\x02";

/// A tensor that a file says it holds.
pub(crate) struct TensorInfo {
    pub(crate) dims: Vec<usize>,
    /// F32, F16 or BF16; `None` for any other type.
    pub(crate) dtype: Option<DType>,
}

/// An open file of weights.
pub(crate) struct WeightFile {
    tensors: BTreeMap<String, TensorInfo>,
    format: Format,
}

enum Format {
    Safetensors {
        file: File,
        data_start: u64,
        header: Metadata,
    },
    Torch(PthTensors),
}

impl WeightFile {
    /// Opens the file at `path`, whatever its name says.
    ///
    /// # Errors
    /// A file of another format, or a damaged one.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Self::open_any(path).map_err(|error| anyhow!("{}: {error:#}", path.display()))
    }

    fn open_any(path: &Path) -> Result<Self> {
        let mut file = File::open(path)?;
        let mut start = Vec::new();
        let n_start = HEADER_START as u64 + 1;
        Read::by_ref(&mut file)
            .take(n_start)
            .read_to_end(&mut start)?;
        // The length of a safetensors header may look like any other file's beginning.
        if start.get(HEADER_START) == Some(&b'{') {
            return Self::open_safetensors(file);
        }
        if start.starts_with(ZIP) {
            return Self::open_torch(path, file.metadata()?.len());
        }
        ensure!(
            !start.starts_with(PICKLE),
            "written by PyTorch before 1.6: save it again with a newer one, \
             `torch.save(torch.load(old, weights_only=True), new)`"
        );
        bail!(
            "neither a .safetensors nor a .pt file of PyTorch by its first bytes: take \
             medusa_lm_head.safetensors or medusa_lm_head.pt, and `git lfs pull` first if git \
             fetched it"
        )
    }

    fn open_safetensors(mut file: File) -> Result<Self> {
        let damaged = "damaged or cut off: download it again";
        let n_file = file.metadata()?.len();
        let mut n_header = [0; HEADER_START];
        file.seek(SeekFrom::Start(0))?;
        file.read_exact(&mut n_header)?;
        let n_header = u64::from_le_bytes(n_header);
        ensure!(n_header <= MAX_HEADER_BYTES.min(n_file), "{damaged}");
        let mut header = vec![0; n_header as usize];
        file.read_exact(&mut header).context(damaged)?;
        // This checks that the tensors lie one behind the other and are as long as their shapes.
        let header: Metadata = serde_json::from_slice(&header).context(damaged)?;
        let data_start = HEADER_START as u64 + n_header;
        let n_data = header.data_len() as u64;
        ensure!(n_file.checked_sub(data_start) == Some(n_data), "{damaged}");
        let tensors = header
            .tensors()
            .into_iter()
            .map(|(name, info)| {
                let dtype = DType::try_from(info.dtype).ok();
                (name, TensorInfo::new(info.shape.clone(), dtype))
            })
            .collect();
        let format = Format::Safetensors {
            file,
            data_start,
            header,
        };
        Ok(Self { tensors, format })
    }

    fn open_torch(path: &Path, n_file: u64) -> Result<Self> {
        // The reader indexes what it unpickles unchecked: on a bad pickle it panics.
        let file = catch_unwind(|| PthTensors::new(path, None))
            .map_err(|_| anyhow!("not a pickle of tensors"))
            .and_then(|file| Ok(file?))
            .map_err(|error| {
                anyhow!(
                    "cannot be read ({error}): download it again, or save it with \
                     `torch.save(model.state_dict(), ...)`"
                )
            })?;
        let mut tensors = BTreeMap::new();
        for (name, info) in file.tensor_infos() {
            let dims = info.layout.dims().to_vec();
            let n_bytes = dims
                .iter()
                .try_fold(info.dtype.size_in_bytes(), |n, &dim| n.checked_mul(dim));
            ensure!(
                n_bytes.is_some_and(|n| n as u64 <= n_file),
                "`{name}` has shape {dims:?}, more than the file holds: download it again"
            );
            tensors.insert(name.clone(), TensorInfo::new(dims, Some(info.dtype)));
        }
        let format = Format::Torch(file);
        Ok(Self { tensors, format })
    }

    /// Every tensor by its name.
    pub(crate) fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    /// The values of tensor `name`, in the type that the file has them in.
    ///
    /// # Errors
    /// No such tensor, one of another type than [`TensorInfo::dtype`] names, a failing disk.
    pub(crate) fn read(&self, name: &str) -> Result<Tensor> {
        self.read_any(name)
            .map_err(|error| anyhow!("`{name}` cannot be read: {error:#}"))
    }

    fn read_any(&self, name: &str) -> Result<Tensor> {
        match &self.format {
            Format::Safetensors {
                file,
                data_start,
                header,
            } => {
                let info = header.info(name).context("no such tensor")?;
                let (start, end) = info.data_offsets;
                let mut bytes = vec![0; end - start];
                let mut file = file;
                file.seek(SeekFrom::Start(data_start + start as u64))?;
                file.read_exact(&mut bytes)?;
                let dtype = DType::try_from(info.dtype)?;
                let shape = &info.shape;
                Ok(Tensor::from_raw_buffer(&bytes, dtype, shape, &Device::Cpu)?)
            }
            Format::Torch(file) => file.get(name)?.context("no such tensor"),
        }
    }
}

impl TensorInfo {
    fn new(dims: Vec<usize>, dtype: Option<DType>) -> Self {
        let is_float = |dtype: &DType| matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
        Self {
            dims,
            dtype: dtype.filter(is_float),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use safetensors::tensor::View;

    use super::*;

    /// What `torch.save` makes of `Module.state_dict()`.
    pub(crate) fn torch_file(tensors: &[(String, Tensor)]) -> Vec<u8> {
        let mut pickle = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
        let mut files = Vec::new();
        for (i, (name, tensor)) in tensors.iter().enumerate() {
            let (dims, stride) = (tensor.dims(), tensor.stride());
            pickle.extend(torch_tensor(name, tensor.dtype(), i, dims, stride));
            files.push((format!("heads/data/{i}"), tensor.data().into_owned()));
        }
        pickle.extend(b"u}");
        pickle.extend(text("_metadata"));
        pickle.extend(b"ccollections\nOrderedDict\n)Rsb.");
        files.insert(0, ("heads/data.pkl".to_owned(), pickle));
        zip(&files)
    }

    /// The pickle of a name and the tensor whose storage is file `i`.
    fn torch_tensor(
        name: &str,
        dtype: DType,
        i: usize,
        dims: &[usize],
        stride: &[usize],
    ) -> Vec<u8> {
        let storage: &[u8] = match dtype {
            DType::F16 => b"ctorch\nHalfStorage\n",
            DType::BF16 => b"ctorch\nBFloat16Storage\n",
            DType::I64 => b"ctorch\nLongStorage\n",
            _ => b"ctorch\nFloatStorage\n",
        };
        let tuple = |sizes: &[usize]| {
            let sizes: Vec<u8> = sizes.iter().flat_map(|&n| int(n)).collect();
            [b"(", &sizes[..], b"t"].concat()
        };
        [
            &text(name)[..],
            b"ctorch._utils\n_rebuild_tensor_v2\n((",
            &text("storage"),
            storage,
            &text(&i.to_string()),
            &text("cpu"),
            &int(dims.iter().fold(1, |n, dim| n.wrapping_mul(*dim))),
            b"tQ",
            &int(0),
            &tuple(dims),
            &tuple(stride),
            b"\x89ccollections\nOrderedDict\n)RtR",
        ]
        .concat()
    }

    fn text(text: &str) -> Vec<u8> {
        let n = text.len() as u32;
        [b"X", &n.to_le_bytes()[..], text.as_bytes()].concat()
    }

    fn int(n: usize) -> Vec<u8> {
        [b"J", &(n as u32).to_le_bytes()[..]].concat()
    }

    /// A zip of stored files.
    fn zip(files: &[(String, Vec<u8>)]) -> Vec<u8> {
        let (mut out, mut directory) = (Vec::new(), Vec::new());
        for (name, data) in files {
            let (offset, n) = (out.len() as u32, data.len() as u32);
            // Version 2.0, then neither flags, compression, time nor date.
            let mut header = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            for number in [crc32(data), n, n, name.len() as u32] {
                header.extend(number.to_le_bytes());
            }
            out.extend(ZIP);
            out.extend(&header);
            out.extend(name.as_bytes());
            out.extend(data);
            directory.extend(b"PK\x01\x02\x14\0");
            directory.extend(&header);
            directory.extend([0; 10]);
            directory.extend(offset.to_le_bytes());
            directory.extend(name.as_bytes());
        }
        let (n, start) = (files.len() as u8, out.len() as u32);
        out.extend(&directory);
        out.extend(b"PK\x05\x06\0\0\0\0");
        out.extend([n, 0, n, 0]);
        out.extend((directory.len() as u32).to_le_bytes());
        out.extend(start.to_le_bytes());
        out.extend([0, 0]);
        out
    }

    fn crc32(data: &[u8]) -> u32 {
        let shifted = |crc: u32| (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
        !data.iter().fold(!0, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| shifted(crc))
        })
    }

    #[test]
    fn tensors_come_back_from_both_formats() {
        let values = Tensor::new(&[[1f32, -2.0, 0.5], [3.0, 4.0, -0.25]], &Device::Cpu).unwrap();
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let a = values.to_dtype(dtype).unwrap();
            let n = Tensor::new(&[7i64], &Device::Cpu).unwrap();
            let tensors = [("a".to_owned(), a), ("n".to_owned(), n)];
            let other = safetensors::serialize(tensors.clone(), None).unwrap();
            for bytes in [torch_file(&tensors), other] {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("file");
                std::fs::write(&path, bytes).unwrap();
                let file = WeightFile::open(&path).unwrap();
                let found: Vec<_> = file
                    .tensors()
                    .iter()
                    .map(|(name, info)| (name.as_str(), info.dims.as_slice(), info.dtype))
                    .collect();
                let expected: [(&str, &[usize], _); 2] =
                    [("a", &[2, 3], Some(dtype)), ("n", &[1], None)];
                assert_eq!(found, expected);
                let read = file.read("a").unwrap().to_dtype(DType::F32).unwrap();
                assert_eq!(
                    read.to_vec2::<f32>().unwrap(),
                    values.to_vec2::<f32>().unwrap()
                );
                assert!(file.read("b").is_err());
            }
        }
    }

    #[test]
    fn other_and_damaged_files_are_refused() {
        let tensor = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        let whole = safetensors::serialize([("a", tensor)], None).unwrap();
        let pickled = |bytes: &[u8]| zip(&[("heads/data.pkl".to_owned(), bytes.to_vec())]);
        let dims = [1 << 30, 1 << 30];
        let huge = torch_tensor("a", DType::F32, 0, &dims, &[1 << 30, 1]);
        let cases = [
            (Vec::new(), "neither"),
            (b"version https://git-lfs".to_vec(), "git lfs pull"),
            (b"GGUF\x03\0\0\0\0\0\0\0".to_vec(), "neither"),
            (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j".to_vec(), "before 1.6"),
            (whole[..whole.len() - 1].to_vec(), "damaged"),
            (whole[..20].to_vec(), "damaged"),
            ([&whole[..], b"x"].concat(), "damaged"),
            (b"PK\x03\x04 and nothing more".to_vec(), "cannot be read"),
            // A tensor that is rebuilt from no arguments at all.
            (
                pickled(b"\x80\x02}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n)Rs."),
                "not a pickle of tensors",
            ),
            (
                pickled(&[b"\x80\x02}", &huge[..], b"s."].concat()),
                "more than the file holds",
            ),
        ];
        for (bytes, why) in cases {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("file");
            std::fs::write(&path, bytes).unwrap();
            let message = WeightFile::open(&path).err().unwrap().to_string();
            assert!(message.contains(why), "{message}, not {why}");
            assert!(!message.contains('\n'), "{message}");
        }
    }
}
