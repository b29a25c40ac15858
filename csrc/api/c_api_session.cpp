// The C ABI: sessions.
#include "api/c_api.h"

using namespace binhdan;
using namespace binhdan::api;

int32_t binhdan_session_save(binhdan_engine handle, const char* path, const int32_t* tokens, size_t n_tokens,
                             uint64_t cache_salt, const char* note, size_t note_size) {
  return guarded([&] {
    require(path, "path");
    const auto engine = engines().get(handle, "engine");
    engine->save_session(path, array(tokens, n_tokens, "tokens"), cache_salt,
                         std::string(api::text(note, note_size, "note")));
  });
}

int32_t binhdan_session_load(binhdan_engine handle, const char* path, uint64_t cache_salt, char* note,
                             size_t capacity, size_t* note_size) {
  return guarded([&] {
    require(path, "path");
    const auto engine = engines().get(handle, "engine");
    write_array<char>(engine->session_note(path, cache_salt), note, capacity, note_size);
    engine->load_session(path, cache_salt);
  });
}
