() => {
  // What neither HTML nor CSS can do for the page; without it everything still works.
  let newest = "";
  let seen = false;
  const look = () => {
    // The chat gives each answer its own HTML as a label, which a screen reader would spell out.
    for (const answer of document.querySelectorAll('#chat [data-testid="bot"][aria-label]')) {
      answer.removeAttribute("aria-label");
    }
    // A question is edited as it was typed: the chat holds what Markdown would read as mark-up as references.
    for (const box of document.querySelectorAll("#chat textarea:not([data-typed])")) {
      box.dataset.typed = "";
      box.value = box.value.replace(/&#(\d{1,4});/g, (_, code) => String.fromCodePoint(code));
      box.dispatchEvent(new Event("input", { bubbles: true }));
    }
    // A new answer's sources are looked at from the top.
    const first = document.querySelector(".sources .card")?.id ?? "";
    if (first !== newest) {
      newest = first;
      document.querySelector(".sources")?.scrollTo({ top: 0, behavior: "instant" });
    }
    // Where there is room, the conversations of before are in sight.
    const list = document.querySelector(".sidebar");
    if (list && !seen) {
      seen = true;
      if (window.innerWidth >= 1200 && !list.classList.contains("open")) list.querySelector(".toggle-button").click();
    }
  };
  const changes = { subtree: true, childList: true, attributes: true, attributeFilter: ["aria-label"] };
  new MutationObserver(look).observe(document, changes);
  look();
}
