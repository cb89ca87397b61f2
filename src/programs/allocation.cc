// operator new and delete of the program. A thread keeps the small blocks that it frees, within a
// bound, for what it allocates next: every request allocates and frees the same dozen sizes, frames
// of coroutines above all, which are larger, and at queue depth 32 more, than malloc keeps for a
// thread.
#include <malloc.h>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <new>
#include <utility>

namespace {

// malloc's blocks come in sizes of kStep, of which it takes kOwn for itself.
constexpr std::size_t kStep = 16;
constexpr std::size_t kOwn = 8;
constexpr std::size_t kLargest = 4096;
constexpr std::size_t kClasses = kLargest / kStep;
// What a thread keeps of one size, and in all.
constexpr std::size_t kMostOfClass = 128 << 10;
constexpr std::size_t kMostBytes = 4 << 20;

// Class i serves requests of up to this many bytes.
constexpr std::size_t size_of(std::size_t index) {
  return index * kStep + kOwn;
}
constexpr std::size_t class_for(std::size_t size) {
  return size <= size_of(1) ? 1 : (size - kOwn + kStep - 1) / kStep;
}

class Cache {
 public:
  void* take(std::size_t index) {
    Class& of = classes_[index];
    if (of.first == nullptr) return nullptr;
    of.bytes -= size_of(index);
    bytes_ -= size_of(index);
    return std::exchange(of.first, of.first->next);
  }

  bool give(void* block, std::size_t index) {
    Class& of = classes_[index];
    const std::size_t size = size_of(index);
    if (of.bytes + size > kMostOfClass || bytes_ + size > kMostBytes || is_over_) return false;
    if (!empties_itself_) empty_at_the_end();
    of.bytes += size;
    bytes_ += size;
    of.first = new (block) Free{of.first};
    return true;
  }

 private:
  struct Free {
    Free* next;
  };
  struct Class {
    Free* first = nullptr;
    std::size_t bytes = 0;
  };

  void empty_at_the_end();
  void empty() {
    is_over_ = true;
    for (Class& of : classes_) {
      while (of.first != nullptr) std::free(std::exchange(of.first, of.first->next));
    }
  }

  std::array<Class, kClasses + 1> classes_{};
  std::size_t bytes_ = 0;
  bool empties_itself_ = false;
  bool is_over_ = false;  // the thread ends
};

// Never destroyed, since the last deletes of a thread come after everything that is.
constinit thread_local Cache cache;

void Cache::empty_at_the_end() {
  struct End {
    ~End() { cache.empty(); }
  };
  empties_itself_ = true;
  thread_local End end;
  static_cast<void>(&end);
}

void* allocate(std::size_t size) {
  for (;;) {
    if (void* const block = std::malloc(size)) return block;
    const std::new_handler handler = std::get_new_handler();
    if (handler == nullptr) throw std::bad_alloc();
    handler();
  }
}

}  // namespace

void* operator new(std::size_t size) {
  const std::size_t index = class_for(size);
  if (index > kClasses) return allocate(size);
  void* const block = cache.take(index);
  return block != nullptr ? block : allocate(size_of(index));
}

// `size`: what was asked for.
void operator delete(void* block, std::size_t size) noexcept {
  if (block == nullptr) return;
  const std::size_t index = class_for(size);
  if (index > kClasses || !cache.give(block, index)) std::free(block);
}

void operator delete(void* block) noexcept {
  if (block == nullptr) return;
  // What malloc has given is at least what was asked for.
  operator delete(block, (::malloc_usable_size(block) - kOwn) / kStep * kStep + kOwn);
}
