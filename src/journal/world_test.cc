#include "journal/world_test.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/error.h"
#include "journal/segment_header.h"

namespace datom::journal::testing {

using protocol::EntryBatch;
using protocol::EntryHeader;
using protocol::EntryId;
using protocol::EntryKind;
using runtime::Task;

EntryBatch make_batch(const EntryId& last, const std::vector<Spec>& specs, Term term,
                      const Uuid& volume) {
  std::size_t bytes = 0;
  for (const Spec& spec : specs) bytes += protocol::frame_bytes(spec.payload);
  protocol::BatchBuilder builder(bytes, volume);
  EntryId before = last;
  for (const Spec& spec : specs) {
    EntryHeader header;
    header.kind = spec.payload == 0                ? EntryKind::trim
                  : spec.payload % kBlockSize == 0 ? EntryKind::write
                                                   : EntryKind::attach;
    header.term = term;
    header.op = before.op.next();
    header.previous = before.checksum;
    header.commit_hint = Op(before.op.value() / 2);
    if (header.kind == EntryKind::write) header.length = spec.payload;
    if (header.kind == EntryKind::trim) header.length = kBlockSize;
    Buffer payload = Buffer::allocate(spec.payload);
    std::memset(payload.mutable_data(), spec.fill, spec.payload);
    before = builder.add(header, payload.view());
  }
  return builder.finish();
}

EntryId Model::at(Op op) const {
  return op == base.op ? base : ids.at(op.value() - base.op.value() - 1);
}

void Model::append(const EntryBatch& batch) {
  for (const EntryHeader& header : batch.headers) ids.push_back(header.id());
}

void Model::cut_after(Op op) {
  ids.resize(op.value() - base.op.value());
}

void expect_part_of(const Model& model, const Journal& journal, Op lowest_last, Op highest_last) {
  ASSERT_TRUE(journal.head_certain());
  ASSERT_GE(journal.last().op, lowest_last);
  ASSERT_LE(journal.last().op, highest_last);
  ASSERT_GE(journal.base().op, model.base.op);
  ASSERT_LE(journal.base().op, std::max(model.base.op, model.trimmed));
  for (Op op = journal.base().op; op <= journal.last().op; op = op.next()) {
    ASSERT_EQ(journal.id_at(op), model.at(op)) << "op " << op.value();
  }
  ASSERT_EQ(journal.base(), model.at(journal.base().op));
  ASSERT_EQ(journal.last(), model.at(journal.last().op));
  ASSERT_EQ(journal.id_at(journal.last().op.next()), std::nullopt);
}

World::World(std::uint64_t seed, JournalOptions options) : random_(seed), options_(options) {
  begin_process();
}

World::~World() {
  if (journal_) close();
}

void World::begin_process() {
  if (journal_) close();
  files_ = runtime::make_memory_filesystem(loop_, disk_);
}

void World::create(EntryId base) {
  intended_ = {base, {}, base.op};
  run(Journal::create(*files_, kDirectory, kVolume, base, options_));
  model_ = intended_;
}

namespace {

Task<void> open_into(std::unique_ptr<Journal>* to, runtime::Filesystem* files, runtime::Loop* loop,
                     JournalOptions options) {
  *to = co_await Journal::open(*files, *loop, kDirectory, kVolume, options);
}

Task<void> read_into(EntryBatch* to, Journal* journal, Op first, std::size_t max_bytes) {
  *to = co_await journal->read(first, max_bytes);
}

Task<void> list_into(std::vector<std::string>* to, runtime::Filesystem* files) {
  *to = co_await files->list(kDirectory);
}

}  // namespace

void World::open() {
  run(open_into(&journal_, files_.get(), &loop_, options_));
}

void World::close() {
  run(journal_->close());
  journal_.reset();
}

void World::reopen() {
  close();
  open();
}

void World::append(const std::vector<Spec>& specs, Term term) {
  append_batch(make_batch(journal_->last(), specs, term));
}

void World::append_batch(EntryBatch batch) {
  intended_ = model_;
  intended_.append(batch);
  run(journal_->append(std::move(batch)));
  model_ = intended_;
}

void World::reserve(std::uint64_t bytes) {
  intended_ = model_;
  run(journal_->reserve(bytes));
}

void World::truncate_after(std::uint64_t op) {
  intended_ = model_;
  intended_.cut_after(Op(op));
  run(journal_->truncate_after(Op(op)));
  model_ = intended_;
}

void World::trim_through(std::uint64_t op) {
  intended_ = model_;
  intended_.trimmed = std::max(model_.trimmed, Op(op));
  run(journal_->trim_through(Op(op)));
  model_ = intended_;
}

void World::reset(EntryId base) {
  intended_ = {base, {}, base.op};
  run(journal_->reset(base));
  model_ = intended_;
}

EntryBatch World::read(std::uint64_t first, std::size_t max_bytes) {
  EntryBatch batch;
  run(read_into(&batch, journal_.get(), Op(first), max_bytes));
  return batch;
}

void World::check() {
  ASSERT_NO_FATAL_FAILURE(expect_part_of(model_, *journal_, model_.last().op, model_.last().op));
  Op next = journal_->first_op();
  while (next <= journal_->last().op) {
    const EntryBatch batch = read(next.value(), 20000);
    ASSERT_FALSE(batch.empty());
    for (std::size_t i = 0; i < batch.headers.size(); ++i) {
      ASSERT_EQ(batch.headers[i].id(), model_.at(next));
      ASSERT_TRUE(body_matches(batch.headers[i], batch.body(i)));
      next = next.next();
    }
  }
}

std::vector<std::string> World::segments() {
  std::vector<std::string> names;
  run(list_into(&names, files_.get()));
  std::erase_if(names, [](const std::string& each) { return !each.ends_with(".segment"); });
  return names;
}

std::string World::newest_segment() {
  std::string newest;
  std::uint32_t sequence = 0;
  for (const std::string& name : segments()) {
    const auto header = decode_segment_header(contents(name).view().first(kSegmentHeaderBytes));
    if (!header || header->sequence <= sequence) continue;
    sequence = header->sequence;
    newest = name;
  }
  return newest;
}

namespace {

Task<void> read_file_into(Buffer* to, runtime::Filesystem* files, std::string path) {
  const std::unique_ptr<runtime::File> file = co_await files->open(path, {});
  const std::uint64_t size = co_await file->size();
  *to = Buffer::allocate(size);
  co_await file->read(0, to->mutable_view());
}

Task<void> write_file_at(runtime::Filesystem* files, std::string path, std::uint64_t offset,
                         ByteView bytes) {
  const std::unique_ptr<runtime::File> file = co_await files->open(path, {});
  co_await file->write(offset, bytes);
  co_await file->sync();
}

}  // namespace

Buffer World::contents(const std::string& name) {
  Buffer bytes;
  run(read_file_into(&bytes, files_.get(), kDirectory + "/" + name));
  return bytes;
}

void World::overwrite(const std::string& name, std::uint64_t offset, ByteView bytes) {
  run(write_file_at(files_.get(), kDirectory + "/" + name, offset, bytes));
}

void World::flip_bit(std::size_t segment, std::uint64_t byte) {
  disk_.flip_bit(kDirectory + "/" + segments().at(segment), byte, 3);
}

void World::clear_sector(std::size_t segment, std::uint64_t byte) {
  const Buffer zeros = Buffer::zeroed(512);
  overwrite(segments().at(segment), byte / 512 * 512, zeros.view());
}

namespace {

Task<void> note_end(Task<void> task, bool* ended) {
  const std::unique_ptr<bool, void (*)(bool*)> at_end(ended, [](bool* flag) { *flag = true; });
  co_await std::move(task);
}

}  // namespace

// While `task` runs, one turn after the other is counted.
void World::run(Task<void> task) {
  bool ended = false;
  std::function<void()> count = [&] {
    if (ended || !turns_left_) return;
    if ((*turns_left_)-- > 0) return loop_.post(count);
    turns_left_.reset();
    disk_.crash(random_);
  };
  loop_.post(count);
  loop_.run(note_end(std::move(task), &ended));
}

bool World::power_fails_during(const std::function<void()>& step, std::size_t turns) {
  turns_left_ = turns;
  try {
    step();
  } catch (const Error&) {
    if (turns_left_) throw;
  }
  return !std::exchange(turns_left_, std::nullopt).has_value();
}

bool World::cut_power_during(const std::function<void(World&)>& step, std::size_t turns) {
  const Model before = model_;
  if (!power_fails_during([&] { step(*this); }, turns)) return false;
  find_between(before, intended_);
  return true;
}

// `before` and `after` differ at the end, or in all when the journal was emptied.
void World::find_between(const Model& before, const Model& after) {
  begin_process();
  open();
  const bool done = model_.last() == after.last();  // the call had ended
  const bool emptied = after.base != before.base;
  Model found = after.ids.size() > before.ids.size() ? after : before;
  if (emptied && (done || journal_->base() == after.base)) found = after;
  found.trimmed = std::max(before.trimmed, after.trimmed);
  Op lowest = std::min(before.last().op, after.last().op);
  Op highest = std::max(before.last().op, after.last().op);
  if (emptied) lowest = highest = found.last().op;
  if (done) lowest = highest = after.last().op;
  ASSERT_NO_FATAL_FAILURE(expect_part_of(found, *journal_, lowest, highest));
  found.cut_after(journal_->last().op);
  model_ = found;
  check();
}

}  // namespace datom::journal::testing
