#include "engine/session_file.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <system_error>

#include "base/error.h"
#include "base/hash.h"
#include "base/output_file.h"

namespace binhdan::engine {
namespace fs = std::filesystem;
namespace {

constexpr std::array<char, 8> kMagic = {'B', 'D', 'S', 'E', 'S', 'S', 'I', '1'};
constexpr uint64_t kMaxNote = 64 << 20;

struct Header {
  std::array<char, 8> magic;
  uint64_t identity, note_bytes, tokens, pages, checksum;  // the checksum is of all after the header
};

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

File open_file(const fs::path& path) {
#ifdef _WIN32
  return {_wfopen(path.c_str(), L"rb"), std::fclose};
#else
  return {std::fopen(path.c_str(), "rb"), std::fclose};
#endif
}

std::string message_of(int error) {
  return std::error_code(error != 0 ? error : EIO, std::generic_category()).message();
}

uint64_t hash_of(const void* data, size_t bytes, uint64_t hash) {
  return hash_bytes({static_cast<const std::byte*>(data), bytes}, hash);
}

// Calls write(data, bytes) for each part of the file after the header.
template <typename Write>
void for_each_part(const SavedSession& session, Write&& write) {
  write(session.note.data(), session.note.size());
  write(session.tokens.data(), session.tokens.size() * sizeof(text::Token));
  for (const model::KvPage& page : session.pages)
    for (const auto* buffer : {&page.parts[0], &page.parts[1], &page.checkpoint}) {
      const uint64_t bytes = *buffer ? (*buffer)->size() : 0;
      write(&bytes, sizeof bytes);
      if (bytes > 0) write((*buffer)->as(), bytes);
    }
}

// Reads parts and hashes them.
class Reader {
 public:
  Reader(const std::string& path) : path_(path), file_(open_file(fs::u8path(path))) {
    if (!file_)
      fail(errno == ENOENT ? Code::not_found : Code::io, "session: cannot open ", path, ": ",
           message_of(errno));
  }
  void read(void* data, size_t bytes) {
    if (bytes > 0 && std::fread(data, 1, bytes, file_.get()) != bytes)
      fail(Code::bad_format, "session: ", path_, " ends early; delete it and save the session again");
    hash = hash_of(data, bytes, hash);
  }
  std::shared_ptr<const Buffer> read_buffer(uint64_t expected) {
    uint64_t bytes = 0;
    read(&bytes, sizeof bytes);
    if (bytes != 0 && bytes != expected)
      fail(Code::bad_format, "session: expected a part of 0 or ", expected, " bytes in ", path_, ", got ",
           bytes);
    if (bytes == 0) return nullptr;
    auto buffer = std::make_shared<Buffer>(bytes);
    read(buffer->as(), bytes);
    return buffer;
  }
  uint64_t hash = 0;

 private:
  const std::string& path_;
  File file_;
};

}  // namespace

void write_session(const std::string& path, uint64_t identity, const SavedSession& session) {
  Header header{kMagic, identity, session.note.size(), session.tokens.size(), session.pages.size(), 0};
  for_each_part(session, [&](const void* data, size_t bytes) {
    header.checksum = hash_of(data, bytes, header.checksum);
  });
  try {
    OutputFile file(path);
    const auto put = [&](const void* data, size_t bytes) {
      file.write({static_cast<const std::byte*>(data), bytes});
    };
    put(&header, sizeof header);
    for_each_part(session, put);
    file.commit();
  } catch (const Error& error) {
    throw Error(error.code(), "session: cannot write " + path + ": " + error.what());
  }
}

SavedSession read_session(const std::string& path, uint64_t identity, const model::PageSizes& sizes,
                          int64_t max_tokens, bool with_pages) {
  Reader reader(path);
  Header header{};
  reader.read(&header, sizeof header);
  if (header.magic != kMagic)
    fail(Code::bad_format, "session: ", path, " is not a session file of this version of the library");
  if (header.identity != identity)
    fail(Code::unsupported, "session: ", path,
         " was saved with another model, kernel table or type of keys and values; compute its prompt again");
  if (header.tokens > static_cast<uint64_t>(max_tokens))
    fail(Code::too_large, "session: ", path, " has ", header.tokens, " tokens, but the context holds ",
         max_tokens);
  if (header.note_bytes > kMaxNote || header.pages > header.tokens / kKvPageTokens)
    fail(Code::bad_format, "session: ", path, " is damaged: its header has impossible sizes");
  SavedSession session;
  reader.hash = 0;
  session.note.resize(header.note_bytes);
  reader.read(session.note.data(), header.note_bytes);
  if (!with_pages) return session;
  session.tokens.resize(header.tokens);
  reader.read(session.tokens.data(), header.tokens * sizeof(text::Token));
  for (uint64_t i = 0; i < header.pages; ++i) {
    model::KvPage page;
    for (size_t part = 0; part < model::kPageParts; ++part)
      page.parts[part] = reader.read_buffer(sizes.parts[part]);
    page.checkpoint = reader.read_buffer(sizes.checkpoint);
    session.pages.push_back(std::move(page));
  }
  if (reader.hash != header.checksum)
    fail(Code::bad_format, "session: ", path, " is damaged: its checksum is wrong; delete it");
  return session;
}

}  // namespace binhdan::engine
