{
  const { steps, loss } = JSON.parse(document.querySelector("script[type]").textContent);
  const slider = document.querySelector(".when input");
  const values = [...document.querySelectorAll(".readout li > span:last-child")];
  const plots = document.querySelectorAll(`.plot[data-points="${steps.length}"]`);
  const show = k => {
    slider.value = k;
    slider.setAttribute("aria-valuetext", "step " + steps[k]);
    document.querySelector(".when b").textContent = steps[k];
    const texts = loss.map(run => run[k]);
    let same = 0;
    while (same < texts[0].length && texts.every(t => t[same] === texts[0][same])) same++;
    texts.forEach((text, run) => {
      const rest = document.createElement("mark");
      rest.textContent = text.slice(same);
      values[run].replaceChildren(text.slice(0, same), rest);
    });
    for (const plot of plots)
      plot.querySelector(".cursor").style.left = (steps.length > 1 ? 100 * k / (steps.length - 1) : 50) + "%";
  };
  slider.hidden = false;
  slider.addEventListener("input", () => show(+slider.value));
  for (const plot of plots) {
    const cursor = plot.appendChild(document.createElement("i"));
    cursor.className = "cursor";
    plot.addEventListener("pointermove", event => {
      const box = plot.getBoundingClientRect();
      const part = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
      show(Math.round(part * (steps.length - 1)));
    });
  }
  show(steps.length - 1);
}
