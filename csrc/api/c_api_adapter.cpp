// The C ABI: adapters.
#include "api/c_api.h"
#include "base/log.h"

using namespace binhdan;
using namespace binhdan::api;

int32_t binhdan_adapter_open(binhdan_model handle, const char* path, binhdan_adapter* out) {
  return guarded([&] {
    require(out, "adapter");
    require(path, "path");
    const auto model = model_with_weights(handle, "model");
    auto opened = std::make_shared<const model::Adapter>(model::Adapter::load(path, model));
    log(LogLevel::info, "opened the adapter ", path, ": rank ", opened->max_rank(), ", ", opened->bytes(),
        " bytes");
    *out = adapters().add(std::move(opened));
  });
}

int32_t binhdan_adapter_close(binhdan_adapter handle) {
  return guarded([&] { adapters().remove(handle, "adapter"); });
}

int32_t binhdan_adapter_describe(binhdan_adapter handle, binhdan_adapter_info* out) {
  return guarded([&] {
    const auto adapter = adapters().get(handle, "adapter");
    binhdan_adapter_info info{};
    info.rank = static_cast<int32_t>(adapter->max_rank());
    info.parameters = adapter->parameters();
    info.bytes = adapter->bytes();
    info.cache_salt = adapter->identity();
    write_struct(out, "binhdan_adapter_info", info);
  });
}
