/// Several lists over one set of nodes, each node in exactly one of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "lethe/config.hpp"

namespace lethe::layerkv::detail {

/// Doubly linked lists of the nodes 0 .. nodes - 1; all begin in list 0, in order. Every operation
/// is O(1); nothing is allocated after construction. Memory: 12 bytes a node and a list.
class IndexLists {
 public:
  /// nodes + lists: below 2^32.
  IndexLists(std::size_t nodes, std::size_t lists) : nodes_(nodes), links_(nodes + lists) {
    for (std::size_t end = nodes; end < links_.size(); ++end) {
      links_[end] = {small(end), small(end), small(end - nodes)};
    }
    for (std::size_t node = 0; node < nodes; ++node) link(node, 0);
  }

  [[nodiscard]] bool empty(std::size_t list) const {
    return links_[nodes_ + list].next == nodes_ + list;
  }
  /// The first of a list that is not empty.
  [[nodiscard]] std::size_t front(std::size_t list) const {
    LETHE_ASSERT(!empty(list));
    return links_[nodes_ + list].next;
  }
  [[nodiscard]] std::size_t list_of(std::size_t node) const { return links_[node].list; }

  /// Takes a node from its list to the end of another, or to its front.
  void move_to_back(std::size_t node, std::size_t list) {
    unlink(node);
    link(node, list);
  }
  void move_to_front(std::size_t node, std::size_t list) {
    unlink(node);
    insert_before(node, links_[nodes_ + list].next);
    links_[node].list = small(list);
  }

 private:
  struct Link {
    std::uint32_t previous;
    std::uint32_t next;
    std::uint32_t list;
  };

  [[nodiscard]] static std::uint32_t small(std::size_t number) {
    return static_cast<std::uint32_t>(number);
  }

  void link(std::size_t node, std::size_t list) {
    insert_before(node, nodes_ + list);
    links_[node].list = small(list);
  }
  void unlink(std::size_t node) {
    links_[links_[node].previous].next = links_[node].next;
    links_[links_[node].next].previous = links_[node].previous;
  }
  void insert_before(std::size_t node, std::size_t next) {
    const std::uint32_t previous = links_[next].previous;
    links_[node].previous = previous;
    links_[node].next = small(next);
    links_[previous].next = small(node);
    links_[next].previous = small(node);
  }

  std::size_t nodes_;
  /// Those of the nodes, then one a list that stands for its end.
  std::vector<Link> links_;
};

}  // namespace lethe::layerkv::detail
