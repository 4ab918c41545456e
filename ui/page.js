() => {
  // What neither HTML nor CSS can do. The page works without it.
  let firstCard = "";
  let lastQuestion = "";
  let sidebarSeen = false;
  const update = () => {
    // The chat repeats each answer's HTML in its label, which a screen reader would spell out.
    for (const answer of document.querySelectorAll('#chat [data-testid="bot"][aria-label]')) {
      answer.removeAttribute("aria-label");
    }
    // A question is edited as it was typed: the chat stores Markdown syntax as character references.
    for (const box of document.querySelectorAll("#chat textarea:not([data-decoded])")) {
      box.dataset.decoded = "";
      box.value = box.value.replace(/&#(\d{1,4});/g, (_, code) => String.fromCodePoint(code));
      box.dispatchEvent(new Event("input", { bubbles: true }));
    }
    // Show the last question at the top, with its answer below: that grows above the evidence.
    const questions = [...document.querySelectorAll("#chat .user-row")];
    const answers = document.querySelectorAll("#chat .bot-row").length;
    const question = [questions.length, answers, questions.at(-1)?.textContent].join();
    if (question !== lastQuestion) {
      lastQuestion = question;
      const log = questions.at(-1)?.closest(".panel-wrap");
      const top = element => element.getBoundingClientRect().top;
      log?.scrollBy({ top: top(questions.at(-1)) - top(log) - 12, behavior: "instant" });
    }
    // Show the sources of a new answer from the top.
    const card = document.querySelector(".sources .card")?.id ?? "";
    if (card !== firstCard) {
      firstCard = card;
      document.querySelector(".sources")?.scrollTo({ top: 0, behavior: "instant" });
    }
    // Open the list of conversations where there is room.
    const sidebar = document.querySelector(".sidebar");
    if (sidebar && !sidebarSeen) {
      sidebarSeen = true;
      const isClosed = !sidebar.classList.contains("open");
      if (window.innerWidth >= 1200 && isClosed) sidebar.querySelector(".toggle-button").click();
    }
  };
  const changes = { subtree: true, childList: true, attributes: true, attributeFilter: ["aria-label"] };
  new MutationObserver(update).observe(document, changes);
  update();
}
