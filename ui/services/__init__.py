"""Work behind the tabs: chats, imports and evaluation runs. No components and no page layout."""
