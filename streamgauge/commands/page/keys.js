// What keys and clicks mean on *Label*. Only the browser knows which text was on the screen when a key was pressed.
//
// A text carries its turn (data-turn) and its keys (data-keys); the container of each button is named after both. An
// answer counts for the text that is on the screen, once, and from LOOK_MS after it was painted: what was pressed
// before was meant for another text. Where its button is not drawn yet, the key waits for it.
(() => {
  if (window.streamgaugeKeys) return;
  window.streamgaugeKeys = true;

  const LOOK_MS = 200;
  const LOST_MS = 5000; // Then it may be answered again: the page takes each turn once.
  const TYPED = "input, textarea, select, [contenteditable=true]";
  let painted = { turn: undefined, atMs: Infinity };
  let answered;

  const shown = () => document.querySelector("[data-turn]");
  const buttonOf = (turn, key) => document.querySelector(`.st-key-${turn}-${key} button`);

  function look() {
    const turn = shown()?.dataset.turn;
    if (turn === painted.turn) return;
    const next = (painted = { turn, atMs: Infinity });
    // The frame after the one in which it is painted. None comes while nobody can see the page.
    requestAnimationFrame(() => requestAnimationFrame((atMs) => (next.atMs = atMs)));
  }

  const counts = (turn, atMs) =>
    turn === painted.turn && turn !== answered && atMs - painted.atMs >= LOOK_MS;

  function press(turn, key, atMs) {
    if (!counts(turn, atMs)) return;
    const button = buttonOf(turn, key);
    if (button) button.click();
    else requestAnimationFrame(() => press(turn, key, atMs));
  }

  function answer(turn) {
    const text = shown();
    answered = turn;
    text.style.opacity = 0.4;
    setTimeout(() => {
      if (answered === turn) answered = undefined;
      text.style.opacity = 1;
    }, LOST_MS);
  }

  addEventListener("keydown", (event) => {
    const text = shown();
    const key = event.key.toLowerCase();
    if (!text?.dataset.keys.includes(key) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest?.(TYPED)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (!event.repeat) press(text.dataset.turn, key, event.timeStamp);
  }, true);

  addEventListener("click", (event) => {
    const container = event.target.closest?.("button")?.closest("[class*='st-key-page-']");
    const turn = container?.className.match(/st-key-(page-\w+-\d+)-/)?.[1];
    if (!turn) return;
    const isSecond = event.detail > 1;
    if (!isSecond && counts(turn, event.timeStamp)) return answer(turn);
    event.preventDefault();
    event.stopImmediatePropagation();
  }, true);

  new MutationObserver(look).observe(document.body, {
    attributeFilter: ["data-turn"], childList: true, subtree: true,
  });
  look();
})();
