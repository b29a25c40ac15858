// Branches of a conversation. `messages` is the path on the screen. A message with siblings has `others`, the
// paths that begin with them, in order, and `place`, its own position among them.

/** Takes the path from `at` on out of `messages`. Returns all paths that branch there, in order, and the
 *  position of the one that was taken. */
function detach(messages, at) {
  const path = messages.splice(at);
  if (path.length === 0) return { paths: [], place: 0 };
  const { others = [], place = 0 } = path[0];
  delete path[0].others;
  delete path[0].place;
  return { paths: [...others.slice(0, place), path, ...others.slice(place)], place };
}

function attach(messages, paths, place) {
  const path = paths[place];
  if (paths.length > 1) {
    path[0].others = paths.filter((_, i) => i !== place);
    path[0].place = place;
  }
  messages.push(...path);
}

/** Puts `message` at `at`. The path that was there becomes a sibling. */
export function branch(messages, at, message) {
  const { paths } = detach(messages, at);
  attach(messages, [...paths, [message]], paths.length);
}

/** Shows the next (`step` 1) or previous (-1) sibling of the message at `at`. */
export function turn(messages, at, step) {
  const { paths, place } = detach(messages, at);
  attach(messages, paths, Math.min(Math.max(place + step, 0), paths.length - 1));
}

/** Removes the path from `at` on, and shows its neighbour if it has one. */
export function drop(messages, at) {
  const { paths, place } = detach(messages, at);
  paths.splice(place, 1);
  if (paths.length > 0) attach(messages, paths, Math.max(place - 1, 0));
}

/** Returns {number, count} of a message among its siblings. */
export const placeOf = ({ others = [], place = 0 }) => ({ number: place + 1, count: others.length + 1 });
