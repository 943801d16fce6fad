// Files that are there whole or not at all.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace weft::checkpoint {

// Written beside its place, under a name of its own, and renamed into it by commit(): readers see
// the old file or the new one, and so does a machine that lost power. Any error (IoError names the
// file and the system's reason, "No space left on device" say) and a destructor without commit()
// remove what was written and leave the old file as it was.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void commit();  // sync, rename, sync the directory

 private:
  [[noreturn]] void refuse(const char* what, int error);
  void discard() noexcept;

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int fd_ = -1;
};

// A directory that is filled beside its place and takes it at once; what stood there before is
// removed afterwards.
class AtomicDirectory {
 public:
  explicit AtomicDirectory(std::filesystem::path path);
  ~AtomicDirectory();
  AtomicDirectory(const AtomicDirectory&) = delete;
  AtomicDirectory& operator=(const AtomicDirectory&) = delete;

  // Where to write meanwhile.
  const std::filesystem::path& temporary() const { return temporary_; }
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
};

// Removes what writers of this host that are no longer alive have left in `directory`.
void remove_leftovers(const std::filesystem::path& directory);

// Removes a directory: at no moment does part of it stand under its name. Gives whether it is gone;
// what could not be removed is a leftover then.
bool remove_whole(const std::filesystem::path& directory) noexcept;

// Makes renames and new names in `directory` last. IoError.
void sync_directory(const std::filesystem::path& directory);

}  // namespace weft::checkpoint
