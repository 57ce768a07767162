// The one thing that needs C++: ggml's CPU backend asks "extra buffer types" through virtual
// functions whether they compute an operation, and keeps them in a std::vector that it hands out by
// reference. Everything else is in Rust, which this file calls back.
//
// The declarations repeat ggml/src/ggml-cpu/traits.h and ggml-cpu-impl.h of the llama.cpp that
// Cargo.toml pins exactly; the package exports no headers. The self-test would notice a difference.

#include <cstddef>
#include <vector>

struct ggml_backend_buffer_type;
struct ggml_backend_device;
struct ggml_tensor;
struct ggml_threadpool;

struct ggml_compute_params {
    int ith, nth;
    size_t wsize;
    void * wdata;
    ggml_threadpool * threadpool;
    bool use_ref;
};

namespace ggml::cpu {
class tensor_traits {
  public:
    virtual ~tensor_traits();
    virtual bool work_size(int n_threads, const ggml_tensor * op, size_t & size)   = 0;
    virtual bool compute_forward(ggml_compute_params * params, ggml_tensor * op) = 0;
};

class extra_buffer_type {
  public:
    virtual ~extra_buffer_type();
    virtual bool            supports_op(ggml_backend_device * device, const ggml_tensor * op) = 0;
    virtual tensor_traits * get_tensor_traits(const ggml_tensor * op)                         = 0;
};
}  // namespace ggml::cpu

std::vector<ggml_backend_buffer_type *> & ggml_backend_cpu_get_extra_buffer_types();

extern "C" {
// What Rust answers (kernels/ops.rs).
struct jupiter_ops {
    bool (*supports)(const ggml_tensor * op);
    bool (*takes)(const ggml_tensor * op);
    bool (*work_size)(int n_threads, const ggml_tensor * op, size_t * bytes);
    bool (*compute)(const ggml_compute_params * params, const ggml_tensor * op);
};
}

namespace {
jupiter_ops ops;

class traits final : public ggml::cpu::tensor_traits {
    bool work_size(int n_threads, const ggml_tensor * op, size_t & size) override {
        return ops.work_size(n_threads, op, &size);
    }

    bool compute_forward(ggml_compute_params * params, ggml_tensor * op) override {
        return ops.compute(params, op);
    }
};

class buffer_type final : public ggml::cpu::extra_buffer_type {
    traits all;

    bool supports_op(ggml_backend_device *, const ggml_tensor * op) override {
        return ops.supports(op);
    }

    ggml::cpu::tensor_traits * get_tensor_traits(const ggml_tensor * op) override {
        return ops.takes(op) ? &all : nullptr;
    }
};
}  // namespace

// The context that a buffer type of Rust's needs, so that the CPU backend asks `answers`.
extern "C" void * jupiter_kernels_context(const jupiter_ops * answers) {
    ops = *answers;
    return static_cast<ggml::cpu::extra_buffer_type *>(new buffer_type());
}

// Puts the buffer type before all others: weights go to the first that supports their operation.
extern "C" void jupiter_kernels_install(ggml_backend_buffer_type * type) {
    auto & types = ggml_backend_cpu_get_extra_buffer_types();
    types.insert(types.begin(), type);
}

// Takes it away again.
extern "C" void jupiter_kernels_remove(ggml_backend_buffer_type * type) {
    auto & types = ggml_backend_cpu_get_extra_buffer_types();
    for (auto it = types.begin(); it != types.end(); ++it) {
        if (*it == type) {
            types.erase(it);
            return;
        }
    }
}
