"""What Streamlit runs for each session, again and again: the frame of the page, and the view that was chosen."""

import streamlit as st

from streamgauge.commands.page import label_view, try_view, watch_view
from streamgauge.commands.page.frame import banner

view = st.navigation(
    [
        st.Page(try_view.show, title="Try", default=True),
        st.Page(label_view.show, title="Label", url_path="label"),
        st.Page(watch_view.show, title="Watch", url_path=watch_view.PATH),
    ],
    position="top",
)
is_wide = view.url_path == watch_view.PATH
st.set_page_config(f"{view.title} - Streamgauge", page_icon="📏", layout="wide" if is_wide else "centered")
banner()
view.run()
