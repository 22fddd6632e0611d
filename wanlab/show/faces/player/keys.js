/* The player's keys. They work while the focus is in the player, and a control keeps those that it has a use for itself. */

class Keys {
  static HELP =
    "Space plays and pauses, \u2190 \u2192 go one frame, Home and End to the first and last, " +
    "L loops, P plays forward and backward, F fills the screen.";
  static HELP_OF_TWO =
    " S shows the clips side by side, W wipes, D shows the difference, B blinks: the second clip is shown while it is held.";
  static HELP_OF_MORE = " Of the keys 1 to 9 the last two choose the two clips.";

  /* What a focused control has its own use for. */
  static MEANT = { INPUT: /^(Arrow|Home|End)/, SELECT: /^(?!Escape)/, BUTTON: /^ $/, SUMMARY: /^ $/ };

  constructor(player) {
    this.player = player;
    const { root } = player;
    const down = (event) => event.composedPath().includes(root) && this.#down(event);
    const up = (event) => event.key.toLowerCase() === "b" && player.holdSecond(false);
    this.stop = hearKeys(root, { keydown: down, keyup: up });
  }

  #actions() {
    const { player } = this;
    const { clock, full } = player;
    return {
      " ": () => clock.toggle(),
      ArrowLeft: () => clock.seek(clock.index - 1),
      ArrowRight: () => clock.seek(clock.index + 1),
      Home: () => clock.seek(0),
      End: () => clock.seek(player.frames - 1),
      l: () => clock.set({ loop: !clock.loop }),
      p: () => clock.set({ pingpong: !clock.pingpong }),
      f: () => full.toggle(),
      ...(full.filling && { Escape: () => full.leave() }),
      ...(player.several && {
        s: () => player.setMode("side"),
        w: () => player.setMode("wipe"),
        d: () => player.setMode("difference"),
        b: (event) => !event.repeat && player.holdSecond(true),
      }),
      ...(player.several && Object.fromEntries(player.clips.map((_, index) => [index + 1, () => player.choose(index)]))),
    };
  }

  #down(event) {
    const actions = this.#actions();
    const name = event.key.length > 1 ? event.key : event.key.toLowerCase();
    if (!(name in actions) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.stopPropagation(); // the notebook would move to another cell
    if (Keys.MEANT[event.composedPath()[0].tagName]?.test(event.key)) return;
    event.preventDefault();
    actions[name](event);
  }
}
